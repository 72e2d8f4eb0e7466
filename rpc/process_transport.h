// How the processes of a job talk: over gRPC, and on one host with their tensors in shared memory.
//
// Free function, thread-safe.
#pragma once

#include <memory>
#include <utility>

#include "rpc/grpc_transport.h"
#include "rpc/shared_transport.h"

namespace muster::rpc {

// `log` is borrowed and outlives the transport. Fails when the system gives no unix socket.
// With `shared_memory` false all goes over gRPC. With an `identity` what does is encrypted.
inline absl::StatusOr<std::unique_ptr<Transport>> MakeProcessTransport(
    Log& log, bool shared_memory = true, const Identity& identity = Identity()) {
  GrpcOptions options;
  options.identity = identity;
  ASSIGN_OR_RETURN(auto grpc, MakeGrpcTransport(std::move(options), log));
  if (!shared_memory) return grpc;
  return MakeSharedTransport(std::move(grpc), log);
}

}  // namespace muster::rpc
