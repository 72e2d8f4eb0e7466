#include "ps/pushes.h"

#include <algorithm>
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
  to.waits = to.queue.queued_bytes() > 0 && IsAhead(to);
  if (!to.waits && to.queue.Take(push)) {
    if (servers_.size() > 1 && (push.header.flags & rpc::kWantParams) != 0) Owe(to, push);
    return true;
  }
  to.sends = false;
  to.flush &= to.queue.queued_bytes() > 0;
  return false;
}

void Pushes::Owe(Server& server, const rpc::Message& push) {
  if (push.header.step > owed_step_) {
    owed_step_ = push.header.step;
    for (Server& each : servers_) {
      each.owed.clear();
      each.owed_bytes = 0;
    }
  }
  const auto bytes = static_cast<int64_t>(push.payload.size());
  if (push.header.step < owed_step_ || !server.owed.emplace(push.header.slice, bytes).second) {
    return;
  }
  server.owed_bytes += bytes;
}

bool Pushes::IsAhead(const Server& server) const {
  return std::ranges::any_of(servers_, [&](const Server& other) {
    // With nothing in flight it waits for company, or its own turn.
    return other.queue.queued_bytes() > 0 && other.queue.oldest() != nullptr &&
           server.owed_bytes - other.owed_bytes > lead_bytes_;
  });
}

std::optional<int> Pushes::Resume() {
  for (size_t i = 0; i < servers_.size(); ++i) {
    Server& server = servers_[i];
    if (!server.waits || server.sends || IsAhead(server)) continue;
    server.waits = false;
    server.sends = true;
    return static_cast<int>(i);
  }
  return std::nullopt;
}

void Pushes::Answered(int server, uint32_t slice, int64_t clock) {
  Server& from = At(server);
  if (clock != owed_step_ + 1) return;
  const auto found = from.owed.find(slice);
  if (found == from.owed.end()) return;
  from.owed_bytes -= found->second;
  from.owed.erase(found);
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
