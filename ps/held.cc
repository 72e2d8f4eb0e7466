#include "ps/held.h"

#include "ps/wire.h"

namespace muster::ps {

bool HeldGradients::Admit(const std::shared_ptr<HeldGradient>& gradient) {
  const int64_t size = static_cast<int64_t>(gradient->payload.size());
  if (bytes_ + size > limit_) return false;
  bytes_ += size;
  waiting_.push_back(gradient);
  AckWaiting();
  return true;
}

void HeldGradients::Release(HeldGradient& gradient, bool answer) {
  const int64_t size = static_cast<int64_t>(gradient.payload.size());
  gradient.payload = {};
  gradient.released = true;
  bytes_ -= size;
  if (gradient.acked) {
    acked_bytes_ -= size;
  } else if (answer) {
    outbox_.Send(*gradient.peer, AckMessage(gradient.header, AckCode::kConsumed));
  }
  AckWaiting();
}

void HeldGradients::AckWaiting() {
  while (!waiting_.empty()) {
    HeldGradient& oldest = *waiting_.front();
    if (!oldest.released) {
      const int64_t size = static_cast<int64_t>(oldest.payload.size());
      if (acked_bytes_ + size > budget_) return;
      acked_bytes_ += size;
      oldest.acked = true;
      outbox_.Send(*oldest.peer, AckMessage(oldest.header, AckCode::kHeld));
    }
    waiting_.pop_front();
  }
}

}  // namespace muster::ps
