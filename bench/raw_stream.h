// The roof of what goes over a gRPC stream: slices sent over one bare stream of the gRPC transport,
// without shard or client, and added to a tensor straight from the bytes as they were received. For
// benchmarks: what fails ends the program.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "bench/raw_tcp.h"
#include "rpc/identity.h"
#include "rpc/transport.h"
#include "telemetry/log.h"
#include "telemetry/mutex.h"

namespace muster::bench {

// Prints its address, and sums what StreamPushers send, for ever. With an identity: encrypted.
[[noreturn]] void ServeStreams(const rpc::Identity& identity);

// A stream to ServeStreams. Each slice is acknowledged with a bare header.
class StreamPusher {
 public:
  StreamPusher(const std::string& address, const rpc::Identity& identity);
  // Pushes for about `seconds`, `window` slices in flight; slices per second.
  double Run(size_t slice_bytes, size_t window, double seconds, Pool& pool);

 private:
  class Handler;
  void WaitAcked(int64_t n);

  Mutex mu_;
  CondVar changed_;
  int64_t acked_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t wanted_ ABSL_GUARDED_BY(mu_) = 0;
  std::unique_ptr<Log> log_;
  std::unique_ptr<rpc::Transport> transport_;
  std::shared_ptr<rpc::Stream> stream_;
};

}  // namespace muster::bench
