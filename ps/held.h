// HeldGradients: the budget of one shard for gradients that wait for their turn, and the ACKs that
// depend on it.
//
// A held gradient within the budget is acknowledged at once (its sender's credit returns). Beyond
// the budget the ACK waits until the gradient is consumed or others made room, so fast workers run
// out of credit instead of filling the memory: at most budget bytes are held acknowledged, and the
// rest is bounded by the workers' credits. A gradient whose turn it is is never held, so the lowest
// missing replica always goes on, and with it, one by one, everyone else.
//
// Owned by one thread (the shard's). Sizes in bytes.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>

#include "ps/outbox.h"
#include "ps/peer.h"
#include "rpc/message.h"

namespace muster::ps {

struct HeldGradient {
  std::shared_ptr<Peer> peer;
  rpc::Header header;
  rpc::Payload payload;
  bool acked = false;
  bool released = false;
};

class HeldGradients {
 public:
  // `limit` bounds what is held in all; only a worker that ignores its credit reaches it.
  // `outbox` is borrowed.
  HeldGradients(int64_t budget, int64_t limit, Outbox& outbox)
      : budget_(budget), limit_(limit), outbox_(outbox) {}

  // Takes a gradient in and sends its ACK when the budget allows. False when the limit forbids it;
  // nothing happened then.
  bool Admit(const std::shared_ptr<HeldGradient>& gradient);
  // The gradient was consumed or given up; `answer` says whether its ACK, if still due, is sent.
  // Frees its payload.
  void Release(HeldGradient& gradient, bool answer);

  int64_t bytes() const { return bytes_; }

 private:
  void AckWaiting();

  const int64_t budget_;
  const int64_t limit_;
  Outbox& outbox_;
  int64_t bytes_ = 0;                                  // held
  int64_t acked_bytes_ = 0;                            // of these, acknowledged
  std::deque<std::shared_ptr<HeldGradient>> waiting_;  // for their ACK, oldest first
};

}  // namespace muster::ps
