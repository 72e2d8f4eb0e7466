#include "master/lag_watch.h"

#include <algorithm>

namespace muster::master {
namespace {

constexpr int64_t kSilentMs = 3'000;
constexpr int64_t kTellIntervalMs = 1'000;

}  // namespace

std::vector<LaggingReplica> Lagging(const std::vector<Member>& members, int64_t now_ms) {
  int64_t ahead = 0;
  for (const Member& member : members) ahead = std::max(ahead, member.clock);
  std::vector<LaggingReplica> lagging;
  for (const Member& member : members) {
    if (!IsTrainer(member.role) || member.state != Member::State::kReady) continue;
    const int64_t silent = now_ms - member.last_seen_ms;
    if (silent > kSilentMs) {
      lagging.push_back(
          {KindName(member.role.kind), member.role.index, ahead - member.clock, silent});
    }
  }
  return lagging;
}

std::optional<std::vector<LaggingReplica>> LagWatch::Look(const std::vector<Member>& members,
                                                          int64_t now_ms) {
  if (now_ms < told_ms_ + kTellIntervalMs) return std::nullopt;
  std::vector<LaggingReplica> lagging = Lagging(members, now_ms);
  if (lagging.empty() && !lagging_) return std::nullopt;
  lagging_ = !lagging.empty();
  told_ms_ = now_ms;
  return lagging;
}

}  // namespace muster::master
