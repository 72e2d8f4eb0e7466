#include "master/waiting_roles.h"

#include <algorithm>
#include <utility>

namespace muster::master {
namespace {

// What was on its way when its machine vanished comes sooner.
constexpr int64_t kLastWordsMs = 500;

bool IsSettled(const WaitingRoles::Waiting& waiting, const Member& former, int64_t now_ms) {
  if (!IsThere(former)) return true;
  return IsMissed(former, now_ms) || former.last_seen_ms > waiting.since_ms + kLastWordsMs;
}

}  // namespace

void WaitingRoles::Add(RoleJoined joined, int64_t now_ms) {
  waiting_.push_back({.joined = std::move(joined), .said = {}, .since_ms = now_ms});
}

bool WaitingRoles::Keep(const RoleSaid& said) {
  const auto found = std::ranges::find_if(
      waiting_, [&](const Waiting& waiting) { return waiting.joined.link == said.link; });
  if (found == waiting_.end()) return false;
  found->said.push_back(said);
  return true;
}

bool WaitingRoles::Drop(const RoleLeft& left) {
  return std::erase_if(waiting_, [&](const Waiting& waiting) {
           return waiting.joined.link == left.link;
         }) > 0;
}

std::vector<WaitingRoles::Waiting> WaitingRoles::Take(const std::vector<Member>& members,
                                                      int64_t now_ms) {
  const auto waits = [&](const Waiting& waiting) {
    return std::ranges::none_of(members, [&](const Member& member) {
      return member.role == waiting.joined.role && IsSettled(waiting, member, now_ms);
    });
  };
  const auto over = std::ranges::stable_partition(waiting_, waits);
  std::vector<Waiting> taken(std::make_move_iterator(over.begin()),
                             std::make_move_iterator(over.end()));
  waiting_.erase(over.begin(), over.end());
  return taken;
}

}  // namespace muster::master
