// Peer: a worker's stream, as shards see it. Thread-safe; shared by the stream's handler, and by
// whatever still waits for an answer.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "rpc/transport.h"

namespace muster::ps {

struct Peer {
  explicit Peer(std::shared_ptr<rpc::Stream> s) : stream(std::move(s)) {}

  const std::shared_ptr<rpc::Stream> stream;
  std::atomic<bool> closed = false;
};

}  // namespace muster::ps
