// The in-process transport: streams by function call, for BASIC jobs and for clusters that live in
// one test process.
//
// Thread-safe. A message is handed to the peer's handler by the thread that sends it whenever rule
// 3 allows; one thread of the transport delivers the rest. Payloads are passed as they are, so a
// borrowed payload is read where it lies.
#pragma once

#include <memory>

#include "rpc/transport.h"

namespace muster::rpc {

// Addresses are "inproc:<name>"; Listen on any address with port 0 ("inproc:0", "127.0.0.1:0")
// makes a new name. Only ends of the same transport object find each other.
std::unique_ptr<Transport> MakeInprocTransport();

}  // namespace muster::rpc
