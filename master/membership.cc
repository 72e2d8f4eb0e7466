#include "master/membership.h"

#include <fmt/format.h>

#include <algorithm>

namespace muster::master {
namespace {

// Heartbeats come every second.
constexpr int64_t kMissedMs = 5'000;

}  // namespace

bool IsTrainer(const RoleId& role) { return role.kind != RoleId::Kind::kServer; }

const char* KindName(RoleId::Kind kind) {
  switch (kind) {
    case RoleId::Kind::kChief:
      return "chief";
    case RoleId::Kind::kWorker:
      return "worker";
    case RoleId::Kind::kServer:
      return "ps";
  }
  return "?";
}

std::string RoleName(const RoleId& role) {
  return fmt::format("{}-{}", KindName(role.kind), role.index);
}

std::optional<RoleId> ParseRole(const std::string& role, int index) {
  if (role == "chief") return RoleId{RoleId::Kind::kChief, index};
  if (role == "worker") return RoleId{RoleId::Kind::kWorker, index};
  if (role == "ps") return RoleId{RoleId::Kind::kServer, index};
  return std::nullopt;
}

bool IsGone(const Member& member) {
  return member.state == Member::State::kLeft || member.state == Member::State::kLost;
}

bool IsThere(const Member& member) {
  return member.state == Member::State::kRegistered || member.state == Member::State::kReady;
}

const char* MemberStateName(Member::State state) {
  switch (state) {
    case Member::State::kExpected:
      return "EXPECTED";
    case Member::State::kRegistered:
      return "REGISTERED";
    case Member::State::kReady:
      return "READY";
    case Member::State::kFinished:
      return "FINISHED";
    case Member::State::kLeft:
      return "LEFT";
    case Member::State::kLost:
      return "LOST";
  }
  return "?";
}

bool IsMissed(const Member& member, int64_t now_ms) {
  return IsThere(member) && now_ms - member.last_seen_ms > kMissedMs;
}

Membership::Membership(int chief, int workers, int servers, int64_t start_timeout_ms,
                       int64_t silence_ms, int64_t now_ms)
    : start_timeout_ms_(start_timeout_ms), silence_ms_(silence_ms), started_ms_(now_ms) {
  for (int i = 0; i < chief; ++i) members_.push_back({RoleId{RoleId::Kind::kChief, i}});
  for (int i = 0; i < workers; ++i) members_.push_back({RoleId{RoleId::Kind::kWorker, i}});
  for (int i = 0; i < servers; ++i) members_.push_back({RoleId{RoleId::Kind::kServer, i}});
}

absl::StatusOr<Member*> Membership::Register(const RoleId& role, int64_t now_ms) {
  Member* member = Find(role);
  if (member == nullptr) {
    return absl::NotFoundError(fmt::format("{} is not part of this job", RoleName(role)));
  }
  const bool free = member->state == Member::State::kExpected || IsGone(*member);
  if (!free) {
    return absl::AlreadyExistsError(fmt::format("{} has registered already (pid {} on {})",
                                                RoleName(role), member->pid, member->host));
  }
  *member = {.role = role, .state = Member::State::kRegistered, .last_seen_ms = now_ms};
  return member;
}

Member* Membership::Find(const RoleId& role) {
  for (Member& member : members_) {
    if (member.role == role) return &member;
  }
  return nullptr;
}

bool Membership::All(RoleId::Kind kind, Member::State state) const {
  for (const Member& member : members_) {
    if (member.role.kind != kind) continue;
    if (member.state < state || IsGone(member)) return false;
  }
  return true;
}

absl::Status Membership::CheckTime(int64_t now_ms) const {
  if (now_ms - started_ms_ <= start_timeout_ms_) return absl::OkStatus();
  for (const Member& member : members_) {
    if (member.state != Member::State::kExpected) continue;
    return absl::DeadlineExceededError(
        fmt::format("{} has not registered within {} s (cluster.startTimeoutS)",
                    RoleName(member.role), start_timeout_ms_ / 1000));
  }
  return absl::OkStatus();
}

const Member* Membership::FindSilent(int64_t now_ms) const {
  for (const Member& member : members_) {
    if (IsThere(member) && now_ms - member.last_seen_ms > silence_ms_) return &member;
  }
  return nullptr;
}

void Membership::NoteDeaf(int64_t ms, int64_t now_ms) {
  started_ms_ = std::min(started_ms_ + ms, now_ms);
  for (Member& member : members_) member.last_seen_ms = std::min(member.last_seen_ms + ms, now_ms);
}

}  // namespace muster::master
