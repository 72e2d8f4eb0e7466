// RoleLosses: roles that are gone, say nothing any more, cannot go on, or want to leave: whom the
// job does without, and for whom it ends (docs/design.md, "Who is spared").
//
// Where the others go on, their leases are to be moved (lease_moves.h) when a function has
// returned. Where they cannot, it returns the error that the job ends with.
//
// Owned by one thread (the coordinator's). Borrows what it is made with. Time is passed in.
#pragma once

#include <cstdint>
#include <string>

#include "master/lease_moves.h"
#include "master/membership.h"
#include "master/role_links.h"
#include "master/run_record.h"
#include "master/trainer_failures.h"
#include "master/trainer_numbers.h"
#include "telemetry/status.h"

namespace muster::master {

// `status` with the role's name in front.
absl::Status Named(const RoleId& role, const absl::Status& status);

class RoleLosses {
 public:
  struct Run {
    Membership* membership = nullptr;
    RoleLinks* links = nullptr;
    LeaseMoves* moves = nullptr;
    RunRecord* record = nullptr;
    TrainerNumbers numbers;
    // The codec keeps something back of gradients, which only its worker's process has.
    bool has_residuals = false;
  };
  explicit RoleLosses(const Run& run) : run_(run) {}

  // Before, all are needed.
  void BeginTraining() { training_ = true; }
  // Why the job cannot do without the role; empty: it can.
  std::string WhyNeeded(const RoleId& role) const;

  // Its link has ended.
  absl::Status OnGone(Member& member, const absl::Status& why);
  // It has said nothing for too long. Should it still live, it ends, and another one may come in
  // its place.
  absl::Status OnSilent(Member& member, int64_t now_ms);
  // It cannot go on, for this reason.
  absl::Status OnUnfit(Member& member, const absl::Status& why);
  // It was asked to leave. False, with a line, where it has to stay: it is needed, or the job is
  // `ending`.
  bool OnLeave(const Member& member, bool ending);

  // A trainer's word that it could not reach a server: it stays where it can begin anew.
  void OnFailed(const Member& member, const absl::Status& why, bool stays, int64_t now_ms);
  // Has the next trainer that failed though no server did begin anew, or does without it. False:
  // there is none.
  absl::StatusOr<bool> SettleFailure(int64_t now_ms);

  // Says what has happened to a trainer, and who goes on with its replicas.
  void TellOfTrainer(const RoleId& role, const std::string& what);

 private:
  // `what` has happened; `detail`: the same for state.json.
  absl::Status Lose(Member& member, const std::string& what, const std::string& detail);

  const Run run_;
  TrainerFailures failures_;
  bool training_ = false;
};

}  // namespace muster::master
