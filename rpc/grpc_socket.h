// What gRPC does not do for its sockets. Private to the gRPC transport. Thread-safe.
#pragma once

#include <grpcpp/support/channel_arguments.h>

#include <string>
#include <vector>

#include "telemetry/status.h"

namespace muster::rpc {

// Whether `address` ("host:port") is this machine's loopback.
bool IsLoopback(const std::string& address);

// What `address` may be: itself, or each port of its range ("host:30000-30099") from a random one
// on, so that processes of one host mostly take different ones at once. InvalidArgument for a range
// that is none.
absl::StatusOr<std::vector<std::string>> PortsOf(const std::string& address);

// Whether this process could listen on `address` now: gRPC itself says only that it cannot.
// Unavailable or InvalidArgument with the system's reason.
absl::Status CheckListenable(const std::string& address);

// Makes sockets that are opened with `args` use `algorithm` (a name that TCP_CONGESTION knows);
// where the kernel refuses it, its own choice stays. Does nothing with a gRPC whose socket mutator
// we do not know.
void SetCongestionControl(grpc::ChannelArguments& args, const std::string& algorithm);

}  // namespace muster::rpc
