// Membership: which roles a job expects, which have registered, and which have fallen silent. A
// pure state machine: time is passed in.
//
// Owned by one thread (the coordinator's).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "master/leases.h"
#include "telemetry/status.h"

namespace muster::master {

// A role of the job, as the file names them; the chief is the trainer on the master's machine.
struct RoleId {
  enum class Kind { kChief, kWorker, kServer };
  Kind kind = Kind::kWorker;
  int index = 0;
  bool operator==(const RoleId&) const = default;
};

// Chief or worker.
bool IsTrainer(const RoleId& role);
// "chief", "worker", "ps".
const char* KindName(RoleId::Kind kind);
// "chief-0", "worker-3", "ps-1".
std::string RoleName(const RoleId& role);
// From the Hello's role ("chief", "worker", "ps") and index; nullopt for any other.
std::optional<RoleId> ParseRole(const std::string& role, int index);

struct Member {
  RoleId role;
  // kLeft, kLost: the job goes on without it, unless that ends it; its place is free.
  enum class State { kExpected, kRegistered, kReady, kFinished, kLeft, kLost };
  State state = State::kExpected;
  int64_t pid = 0;
  std::string host;
  std::string params_address;  // servers
  std::string metrics_address;
  std::string device;
  std::string device_kind;  // trainers: as RunIdentity has it
  int64_t last_seen_ms = 0;
  int64_t clock = 0;  // trainers: steps finished
  Leases leases;      // trainers: the replicas that it computes
};
const char* MemberStateName(Member::State state);
// It has left or is lost.
bool IsGone(const Member& member);
// Whether heartbeats of it are expected.
bool IsThere(const Member& member);
// Whether several of them did not come, so that it may not be there any more.
bool IsMissed(const Member& member, int64_t now_ms);

class Membership {
 public:
  // Expects `chief` (0 or 1) chief, `workers` workers and `servers` servers, counted from `now_ms`
  // on.
  Membership(int chief, int workers, int servers, int64_t start_timeout_ms, int64_t silence_ms,
             int64_t now_ms);

  // Fails when the role is not part of the job or is there already.
  absl::StatusOr<Member*> Register(const RoleId& role, int64_t now_ms);
  // The member, or null when the role is not part of the job.
  Member* Find(const RoleId& role);
  const std::vector<Member>& members() const { return members_; }
  // True when every member of `kind` is at least in `state` (and none has left or is lost).
  bool All(RoleId::Kind kind, Member::State state) const;
  bool AllTrainers(Member::State state) const {
    return All(RoleId::Kind::kChief, state) && All(RoleId::Kind::kWorker, state);
  }
  // Names the first role that has not registered in time; OK when there is none.
  absl::Status CheckTime(int64_t now_ms) const;
  // The first one that is there and has said nothing for too long; null when there is none.
  const Member* FindSilent(int64_t now_ms) const;
  // Nobody could be heard for so long until `now_ms`: that counts as nobody's silence. What was
  // heard later, by a clock that was set back, was heard now.
  void NoteDeaf(int64_t ms, int64_t now_ms);

 private:
  std::vector<Member> members_;
  const int64_t start_timeout_ms_;
  const int64_t silence_ms_;
  int64_t started_ms_;
};

}  // namespace muster::master
