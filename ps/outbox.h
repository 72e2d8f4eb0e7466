// Outbox: the answers of one shard on their way to the workers' streams. What one burst of requests
// causes leaves in one write per worker instead of one per answer: on small models the writes and
// the wake-ups behind them are what a separate server costs.
//
// Owned by one thread (the shard's). Holds no answer back for longer than Flush is away.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ps/peer.h"
#include "rpc/message.h"

namespace muster::ps {

class Outbox {
 public:
  // Queues an answer to `peer`; flushes when much is queued. An answer to a closed stream is
  // dropped: its worker is gone, or asks again under the same names.
  void Send(const Peer& peer, rpc::Message message);
  // Lets everything go that was queued.
  void Flush();

 private:
  std::vector<std::shared_ptr<rpc::Stream>> waiting_;  // streams with queued answers
  int64_t bytes_ = 0;                                  // queued on them
};

}  // namespace muster::ps
