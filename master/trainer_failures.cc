#include "master/trainer_failures.h"

#include <algorithm>
#include <utility>

namespace muster::master {
namespace {

// For a server's end to be heard of, too.
constexpr int64_t kCauseMs = 200;
// Of a trainer that finishes no step between.
constexpr int kTries = 3;

}  // namespace

void TrainerFailures::Add(Failure failure, int64_t clock, int64_t now_ms) {
  Tries& tries = tries_[RoleName(failure.role)];
  if (tries.clock != clock) tries = {clock, 0};
  failure.stays &= ++tries.count <= kTries;
  told_.push_back({std::move(failure), now_ms});
}

void TrainerFailures::Forget(const RoleId& role) {
  tries_.erase(RoleName(role));
  std::erase_if(told_, [&](const Told& told) { return told.failure.role == role; });
}

std::optional<TrainerFailures::Failure> TrainerFailures::Take(const std::vector<Member>& members,
                                                              int64_t now_ms) {
  const bool missed = std::ranges::any_of(members, [&](const Member& member) {
    return !IsTrainer(member.role) && IsMissed(member, now_ms);
  });
  if (missed || told_.empty() || now_ms - told_.front().at_ms < kCauseMs) return std::nullopt;
  Failure failure = std::move(told_.front().failure);
  told_.erase(told_.begin());
  return failure;
}

}  // namespace muster::master
