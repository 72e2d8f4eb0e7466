// The gRPC transport: streams between processes, over TCP.
//
// Thread-safe. One thread serves all streams that this process connected, one more each Listener's;
// both start when first needed. They call the handlers. Child processes must be started before the
// first stream.
//
// Nothing of a payload is copied here: what is sent is read where it lies, what is received stays
// where gRPC received it (see Payload). For that to be fast call TuneAllocator (rpc/allocator.h) in
// main.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "rpc/identity.h"
#include "rpc/transport.h"
#include "telemetry/log.h"

namespace muster::rpc {

struct GrpcOptions {
  // A peer is asked for a sign of life after this much silence, and given up after
  // `keepalive_timeout_ms` more. Processes that die are noticed at once without it; it is for
  // machines that vanish.
  int64_t keepalive_ms = 20'000;
  int64_t keepalive_timeout_ms = 20'000;
  // How long a peer may connect without saying Hello.
  int64_t hello_timeout_ms = 10'000;
  // How long a closed stream waits for a peer that reads nothing of what is still to be sent. gRPC
  // keeps the bytes it has begun to write until keepalive gives the connection up, so OnClosed may
  // then come that much later.
  int64_t close_grace_ms = 5'000;
  // Congestion control as TCP_CONGESTION names it. Empty: "cubic" on loopback, where bbr halves the
  // throughput, else the system's.
  std::string congestion_control;
  // Of this process. With one, all streams are encrypted, and only peers with a certificate of the
  // same authority are listened to.
  Identity identity;
};

// `log` is borrowed and outlives the transport; refused and malformed peers are reported there.
// Fails with InvalidArgument when an option is not positive. Addresses are "host:port"; Listen
// binds this host alone, never shares its port, and with port 0 lets the system choose, with
// "host:30000-30099" one of these that is free.
absl::StatusOr<std::unique_ptr<Transport>> MakeGrpcTransport(GrpcOptions options, Log& log);

}  // namespace muster::rpc
