#include "ps/pushes.h"

#include <utility>

namespace muster::ps {

void Pushes::Add(int server, int priority, rpc::Message push) {
  ++unfinished_[push.header.step];
  At(server).queue.Add(priority, std::move(push));
}

void Pushes::Clear() {
  for (Server& server : servers_) server.queue.Clear();
}

bool Pushes::Begin(int server, int64_t least_bytes) {
  Server& to = At(server);
  if (to.sends || !(to.flush || to.queue.queued_bytes() >= least_bytes)) return false;
  to.sends = true;
  return true;
}

bool Pushes::Take(int server, rpc::Message& push) {
  Server& to = At(server);
  if (to.queue.Take(push)) return true;
  to.sends = false;
  to.flush &= to.queue.queued_bytes() > 0;
  return false;
}

Pushes::Ack Pushes::Acknowledge(int server, const rpc::Header& ack) {
  if (!At(server).queue.Acknowledge(ack)) return Ack::kNotSent;
  const auto left = unfinished_.find(ack.step);
  if (--left->second > 0) return Ack::kTaken;
  unfinished_.erase(left);
  return Ack::kLastOfStep;
}

Pushes::Due Pushes::FirstDue() const {
  Due first;
  for (size_t i = 0; i < servers_.size(); ++i) {
    const PushQueue::InFlight* const oldest = servers_[i].queue.oldest();
    if (oldest == nullptr) continue;
    if (first.push == nullptr || oldest->deadline < first.push->deadline) {
      first = {static_cast<int>(i), oldest};
    }
  }
  return first;
}

}  // namespace muster::ps
