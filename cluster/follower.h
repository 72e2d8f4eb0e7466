// Follower: judges a run from what is seen of it (status lines of the master, roles that end, the
// clock, Ctrl-C) and says what to do next.
//
// A pure state machine: starts and stops nothing itself, time is passed in. Owned by one thread.
//
//   following
//     ├─ Ctrl-C, running time over ──────▶ draining (master asked to finish the step, checkpoint
//     │                                    and stop all)
//     │                                      └─ second Ctrl-C, or out of patience ─▶ killing
//     ├─ a role ends, never registers ───▶ settling ─▶ terminating ─▶ killing
//     └─ master: SUCCEEDED, CANCELLED, ──▶ ending (roles leave by themselves)
//        FAILED                              └─ out of patience ─▶ terminating
//
// A worker that leaves, or is killed, while the job runs is no failure by itself: the master says
// whether the others go on with its replicas (master/lease_moves.h). One that ends by a fault of
// its own is: the fault would come again.
//
// `done` once every role has ended.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/bill.h"
#include "cluster/display.h"
#include "cluster/idle_watch.h"
#include "cluster/process.h"
#include "master/status_line.h"

namespace muster::cluster {

struct FollowerOptions {
  struct Role {
    std::string role;  // "master", "chief", "worker", "ps"
    int index = 0;
    std::string sized_by;  // the config field that asked for it: "trainingInput.workerCount"
  };
  std::string job_id;
  std::vector<Role> roles;            // the master first
  int64_t start_timeout_ms = 60'000;  // for each role to register, from its start
  int64_t start_warning_ms = 4'000;   // after which one that has not registered is named
  int64_t hang_ms = 3'500;            // a role that has not registered by then, and has done
  int64_t idle_ms = 1'500;            // nothing for so long, is not waited for
  int64_t max_running_ms = 0;         // from RUNNING on; 0: no limit
  std::shared_ptr<const Rent> rent;   // on this clock; null: nothing is rented
  IdleLimit idle;                     // of the machines, while it trains
  size_t machines = 1;
  int64_t settle_ms = 300;  // between the first sign of a failure and its judgement: causes arrive
                            // after consequences
  int64_t patience_ms = 10'000;        // for roles to leave after the master has ended the job
  int64_t failed_patience_ms = 3'000;  // the same after FAILED
  int64_t drain_ms = 120'000;          // for the checkpoint after the running time is over
  int64_t terminate_ms = 2'000;        // between SIGINT and SIGKILL
};

// Why a job is stopped that has trained for so long.
std::string TimeIsOver(int64_t max_running_ms);
std::string BudgetIsUsedUp(double max_cost);

class Follower {
 public:
  enum class Action { kInterruptMaster, kTerminateAll, kKillAll };

  // Why the run failed, for people.
  struct Failure {
    std::string text;            // one line
    std::optional<size_t> role;  // whose log's last lines explain it; index in options.roles
  };

  Follower(FollowerOptions options, int64_t now_ms);

  void OnStarted(size_t role, int64_t now_ms);  // its process, or another one, runs
  // What a role's process has done so far. To be told about once a second while it has not
  // registered.
  void OnActivity(size_t role, const ProcessActivity& activity, int64_t now_ms);
  bool registered(size_t role) const { return roles_[role].registered; }
  // How busy a machine was lately (RoleProcesses::Listener::OnMachineUsed).
  void OnMachineUsed(size_t machine, double share, int64_t now_ms);
  void OnLine(const master::StatusLine& line, int64_t now_ms);
  void OnBadLine(const absl::Status& status);
  void OnExit(size_t role, const ExitStatus& status, int64_t now_ms);
  // A role is gone with its host: it may be started again on another one, and the run goes on and
  // may end without it.
  void OnAway(size_t role);
  // Whether the others can go on without the role, as far as is seen from here.
  bool CanDoWithout(size_t role) const;
  // Whether a role that ends so has only lost its link to the master, which goes on without it: it
  // may be started again. To be asked before OnExit.
  bool IsCutOff(size_t role, const ExitStatus& status) const;
  // Whether the run goes on, so that a role may be started again.
  bool goes_on() const { return phase_ == Phase::kFollowing && !master::IsFinal(state_); }
  void OnInterrupt(int64_t now_ms);
  // A failure of the launcher's own, such as a program that cannot be started.
  void OnError(const std::string& text, int64_t now_ms);
  void OnTick(int64_t now_ms);

  // What is to be done now, in order; each is told once.
  std::vector<Action> TakeActions();
  // Lines to print above the display, in order; each is told once.
  std::vector<std::string> TakeMessages();
  // When OnTick must be called at the latest.
  int64_t NextDeadline() const;

  // True once every started role has ended.
  bool done() const;
  // Where roles find the master; empty until it listens.
  const std::string& master_address() const { return address_; }
  DisplayState Display(int64_t now_ms) const;
  // When its running time is over, from `now_ms` on while it does not train yet, or its budget is
  // used up. 0: never.
  int64_t EndsBy(int64_t now_ms) const;

  // How it ended; PRECONDITION: done().
  master::RunState outcome() const;
  int exit_code() const;  // 0 SUCCEEDED, 130 Ctrl-C, 2 the user's input was wrong, else 1
  const std::optional<Failure>& failure() const { return failure_; }
  // What the user is told when it was neither success nor failure: the limit, or nothing.
  const std::string& cancel_reason() const { return cancel_reason_; }
  const std::optional<master::ResultLine>& result() const { return result_; }

 private:
  enum class Phase { kFollowing, kDraining, kEnding, kSettling, kTerminating, kKilling };
  struct RoleState {
    bool started = false, registered = false, ready = false, warned = false;
    bool again = false;               // the others go on whether or not it comes
    bool left = false, lost = false;  // as the master says
    int64_t started_ms = 0;
    ProcessActivity activity;
    std::optional<int64_t> idle_since_ms;  // asleep, and activity has been the same
    std::optional<ExitStatus> exit;
  };

  std::string Name(size_t role) const;
  std::string Sized(size_t role) const;
  std::optional<size_t> FindRole(const std::string& role, int index) const;
  void OnState(const master::StateLine& line, int64_t now_ms);
  void OnProgress(const master::ProgressLine& line, int64_t now_ms);
  void OnReplica(const master::ReplicaLine& line);
  void OnMasterExit(const ExitStatus& status, int64_t now_ms);
  // Whether the job may go on without the role, which has ended so.
  bool CanBeSpared(size_t role, const ExitStatus& status) const;
  // Notes a sign of failure; the first begins settling.
  void Suspect(Failure failure, bool certain, int64_t now_ms);
  void Enter(Phase phase, int64_t deadline_ms);
  // Ends the job in order, for `reason`.
  void Cancel(const std::string& reason, int64_t now_ms);
  int64_t StopBy(int64_t now_ms) const;  // by the budget
  void Terminate(int64_t now_ms);
  void Kill();

  const FollowerOptions options_;
  const int64_t began_ms_;
  IdleWatch idle_;
  Phase phase_ = Phase::kFollowing;
  int64_t deadline_ms_;  // of the phase
  std::vector<RoleState> roles_;
  std::string address_;
  master::RunState state_ = master::RunState::kPreparing;
  std::string stage_;
  bool wrong_input_ = false;
  int64_t running_ms_ = 0;  // when RUNNING began
  std::optional<Failure> failure_;
  bool certain_ = false;           // failure_ is a cause, not perhaps a consequence
  std::optional<Failure> spared_;  // the last role that was, and may not be: what the master says
  int64_t spared_ms_ = 0;
  bool interrupted_ = false;  // before the master had ended the job
  int interrupts_ = 0;
  std::string cancel_reason_;
  std::optional<master::ResultLine> result_;
  master::ProgressLine progress_;
  int64_t progress_ms_ = 0;
  double ms_per_step_ = 0;
  std::vector<Action> actions_;
  std::vector<std::string> messages_;
};

}  // namespace muster::cluster
