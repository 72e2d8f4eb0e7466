#include "ps/push_queue.h"

#include <algorithm>

namespace muster::ps {

void PushQueue::Add(int priority, rpc::Message push) {
  queued_bytes_ += static_cast<int64_t>(push.payload.size());
  Lane& lane = lanes_[push.header.replica];
  lane.queue.push({priority, sequence_++, std::move(push)});
}

bool PushQueue::Take(rpc::Message& push) {
  Lane* best = nullptr;
  const Queued* earlier = nullptr;  // the most urgent one of the replicas before
  for (auto& [replica, lane] : lanes_) {
    if (lane.queue.empty()) continue;
    const Queued& next = lane.queue.top();
    if (earlier != nullptr && earlier->Precedes(next)) continue;
    earlier = &next;
    const int64_t bytes = static_cast<int64_t>(next.message.payload.size());
    if (lane.in_flight > 0 && in_flight_bytes_ + bytes > credit_bytes_) continue;
    if (best == nullptr || best->queue.top() < next) best = &lane;
  }
  if (best == nullptr) return false;
  // top() is const only to protect the order, and the element leaves the queue here.
  push = std::move(const_cast<Queued&>(best->queue.top()).message);
  best->queue.pop();
  const int64_t bytes = static_cast<int64_t>(push.payload.size());
  queued_bytes_ -= bytes;
  in_flight_bytes_ += bytes;
  ++best->in_flight;
  in_flight_.push_back({push.header.slice, push.header.replica, push.header.step, bytes,
                        Clock::now() + ack_timeout_});
  return true;
}

bool PushQueue::Acknowledge(const rpc::Header& ack) {
  const auto found = std::ranges::find_if(in_flight_, [&](const InFlight& push) {
    return push.slice == ack.slice && push.replica == ack.replica && push.step == ack.step;
  });
  if (found == in_flight_.end()) return false;
  in_flight_bytes_ -= found->bytes;
  --lanes_.at(ack.replica).in_flight;
  in_flight_.erase(found);
  return true;
}

void PushQueue::Clear() {
  for (auto& [replica, lane] : lanes_) lane.queue = {};
  queued_bytes_ = 0;
}

}  // namespace muster::ps
