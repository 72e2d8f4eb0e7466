#include "cluster/follower.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "telemetry/time.h"

namespace muster::cluster {
namespace {

using master::RunState;

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

}  // namespace

std::string TimeIsOver(int64_t max_running_ms) {
  return fmt::format("the running time of {} is over (trainingInput.scheduling.maxRunningTime)",
                     FormatDuration(max_running_ms));
}

std::string BudgetIsUsedUp(double max_cost) {
  return fmt::format("the budget of ${:.2f} is used up (cluster.budget.maxCost)", max_cost);
}

Follower::Follower(FollowerOptions options, int64_t now_ms)
    : options_(std::move(options)),
      began_ms_(now_ms),
      idle_(options_.idle, options_.machines),
      deadline_ms_(kNever),
      roles_(options_.roles.size()) {}

std::string Follower::Name(size_t role) const {
  return fmt::format("{}-{}", options_.roles[role].role, options_.roles[role].index);
}

std::string Follower::Sized(size_t role) const {
  const std::string& field = options_.roles[role].sized_by;
  return field.empty() ? "" : fmt::format(" (asked for by {})", field);
}

std::optional<size_t> Follower::FindRole(const std::string& role, int index) const {
  for (size_t i = 0; i < options_.roles.size(); ++i) {
    if (options_.roles[i].role == role && options_.roles[i].index == index) return i;
  }
  return std::nullopt;
}

void Follower::Enter(Phase phase, int64_t deadline_ms) {
  phase_ = phase;
  deadline_ms_ = deadline_ms;
}

void Follower::Terminate(int64_t now_ms) {
  Enter(Phase::kTerminating, now_ms + options_.terminate_ms);
  actions_.push_back(Action::kTerminateAll);
}

void Follower::Kill() {
  Enter(Phase::kKilling, kNever);
  actions_.push_back(Action::kKillAll);
}

void Follower::Suspect(Failure failure, bool certain, int64_t now_ms) {
  if (phase_ == Phase::kTerminating || phase_ == Phase::kKilling) return;
  if (!failure_.has_value() || (certain && !certain_)) {
    failure_ = std::move(failure);
    certain_ = certain;
  }
  if (phase_ != Phase::kSettling) Enter(Phase::kSettling, now_ms + options_.settle_ms);
}

void Follower::OnStarted(size_t role, int64_t now_ms) {
  roles_[role] = {.started = true, .again = CanDoWithout(role), .started_ms = now_ms};
}

void Follower::OnActivity(size_t role, const ProcessActivity& activity, int64_t now_ms) {
  RoleState& state = roles_[role];
  const bool idle = activity.asleep && activity == state.activity;
  state.activity = activity;
  if (!idle) {
    state.idle_since_ms.reset();
  } else if (!state.idle_since_ms.has_value()) {
    state.idle_since_ms = now_ms;
  }
}

void Follower::OnMachineUsed(size_t machine, double share, int64_t now_ms) {
  if (state_ == RunState::kRunning) idle_.OnUse(machine, share, now_ms);
}

void Follower::OnError(const std::string& text, int64_t now_ms) {
  Suspect({text, std::nullopt}, /*certain=*/true, now_ms);
}

void Follower::OnBadLine(const absl::Status& status) {
  messages_.push_back(fmt::format("warning: the master's status line does not read: {}",
                                  std::string(status.message())));
}

void Follower::OnLine(const master::StatusLine& line, int64_t now_ms) {
  if (const auto* listening = std::get_if<master::ListeningLine>(&line)) {
    address_ = listening->address;
    roles_[0].registered = roles_[0].ready = true;
  } else if (const auto* state = std::get_if<master::StateLine>(&line)) {
    OnState(*state, now_ms);
  } else if (const auto* progress = std::get_if<master::ProgressLine>(&line)) {
    OnProgress(*progress, now_ms);
  } else if (const auto* replica = std::get_if<master::ReplicaLine>(&line)) {
    OnReplica(*replica);
  } else if (const auto* message = std::get_if<master::MessageLine>(&line)) {
    const char* level = message->level == master::MessageLine::Level::kInfo      ? ""
                        : message->level == master::MessageLine::Level::kWarning ? "warning: "
                                                                                 : "error: ";
    messages_.push_back(level + message->text);
  } else if (const auto* result = std::get_if<master::ResultLine>(&line)) {
    result_ = *result;
  }
}

void Follower::OnState(const master::StateLine& line, int64_t now_ms) {
  state_ = line.state;
  stage_ = line.text;
  wrong_input_ = line.wrong_input;
  if (state_ == RunState::kRunning && running_ms_ == 0) running_ms_ = now_ms;
  if (!master::IsFinal(state_) || phase_ == Phase::kTerminating || phase_ == Phase::kKilling) {
    return;
  }
  if (state_ == RunState::kFailed) {
    stage_.clear();
    if (!failure_ && spared_ && now_ms <= spared_ms_ + options_.settle_ms) failure_ = spared_;
    if (!failure_.has_value()) {
      failure_ = Failure{line.text.empty() ? "the master gave up" : line.text, std::nullopt};
    }
    // Whoever watches wants to know soon, so roles get less time to leave.
    if (phase_ != Phase::kSettling) Enter(Phase::kEnding, now_ms + options_.failed_patience_ms);
  } else {
    // From several hosts a role's orderly end may be heard of before the master's word.
    if (phase_ == Phase::kSettling && failure_ && failure_->role) {
      const std::optional<ExitStatus>& exit = roles_[*failure_->role].exit;
      if (exit && exit->ok()) failure_.reset();
    }
    Enter(Phase::kEnding, now_ms + options_.patience_ms);
  }
}

void Follower::OnProgress(const master::ProgressLine& line, int64_t now_ms) {
  const master::ProgressLine last = std::exchange(progress_, line);
  if (!progress_.validation_accuracy) progress_.validation_accuracy = last.validation_accuracy;
  if (!progress_.loss) progress_.loss = last.loss;
  if (!progress_.samples_per_second) progress_.samples_per_second = last.samples_per_second;
  if (line.step <= last.step) return;
  if (progress_ms_ != 0) {
    const double now =
        static_cast<double>(now_ms - progress_ms_) / static_cast<double>(line.step - last.step);
    // A mean over about the last ten points.
    ms_per_step_ = ms_per_step_ == 0 ? now : ms_per_step_ + 0.1 * (now - ms_per_step_);
  }
  progress_ms_ = now_ms;
}

void Follower::OnReplica(const master::ReplicaLine& line) {
  const std::optional<size_t> role = FindRole(line.role, line.index);
  if (!role.has_value()) return;
  if (line.state != "EXPECTED") roles_[*role].registered = true;
  roles_[*role].ready = line.state == "READY" || line.state == "FINISHED";
  roles_[*role].left = line.state == "LEFT";
  roles_[*role].lost = line.state == "LOST";
}

void Follower::OnExit(size_t role, const ExitStatus& status, int64_t now_ms) {
  roles_[role].exit = status;
  if (phase_ == Phase::kTerminating || phase_ == Phase::kKilling) return;
  if (role == 0) {
    OnMasterExit(status, now_ms);
    return;
  }
  const bool told = master::IsFinal(state_) || state_ == RunState::kCancelling;
  if (told && state_ != RunState::kFailed) {
    if (!status.ok()) {
      messages_.push_back(
          fmt::format("warning: {} {} while the job ended", Name(role), DescribeExit(status)));
    }
    return;
  }
  // Between Ctrl-C and the master's word a trainer may already be finished.
  if (phase_ == Phase::kDraining && status.ok()) return;
  Failure failure{fmt::format("{} {}{}{}", Name(role), DescribeExit(status),
                              roles_[role].registered ? "" : " before it registered", Sized(role)),
                  role};
  if (CanBeSpared(role, status)) {
    if (roles_[role].left) return;
    messages_.push_back(fmt::format("warning: {} {}", Name(role), DescribeExit(status)));
    spared_ = std::move(failure);
    spared_ms_ = now_ms;
  } else if (state_ != RunState::kFailed || status.signal != 0) {
    // Killed from outside, or left without having been told to while the master lived: a cause.
    const bool certain = status.signal != 0 || !roles_[0].exit.has_value();
    Suspect(std::move(failure), certain, now_ms);
  } else if (failure_.has_value() && !failure_->role.has_value() && !status.ok()) {
    // The log of the first role that ended explains what the master said.
    failure_->role = role;
  }
}

bool Follower::CanDoWithout(size_t role) const {
  return options_.roles[role].role == "worker" && phase_ == Phase::kFollowing &&
         state_ == RunState::kRunning;
}

bool Follower::CanBeSpared(size_t role, const ExitStatus& status) const {
  if (!CanDoWithout(role)) return false;
  const bool in_vain = roles_[role].again && !roles_[role].registered;
  return roles_[role].left || in_vain || IsCutOff(role, status) || EndedFromOutside(status);
}

bool Follower::IsCutOff(size_t role, const ExitStatus& status) const {
  return CanDoWithout(role) && roles_[role].lost && status.signal == 0;
}

void Follower::OnAway(size_t role) { roles_[role] = RoleState(); }

void Follower::OnMasterExit(const ExitStatus& status, int64_t now_ms) {
  if (master::IsFinal(state_)) return;
  if (phase_ == Phase::kDraining && status.signal == 0) return;
  // Not certain: a role that dies may take the master along.
  Suspect({fmt::format("{} {}{}", Name(0), DescribeExit(status), Sized(0)), 0},
          /*certain=*/false, now_ms);
}

void Follower::OnInterrupt(int64_t now_ms) {
  ++interrupts_;
  const bool ended = master::IsFinal(state_);
  if (!ended) interrupted_ = true;
  if (phase_ == Phase::kFollowing && !address_.empty()) {
    messages_.push_back(
        "interrupted: finishing the step and saving a checkpoint; Ctrl-C again stops at once");
    actions_.push_back(Action::kInterruptMaster);
    Enter(Phase::kDraining, kNever);
  } else if (ended && interrupts_ == 1) {
    messages_.push_back("the job is ending; Ctrl-C again stops at once");
    deadline_ms_ = std::min(deadline_ms_, now_ms + options_.patience_ms);
  } else {
    // Asked twice, or there is nothing to save yet.
    Kill();
  }
}

void Follower::OnTick(int64_t now_ms) {
  if (phase_ == Phase::kFollowing) {
    for (size_t i = 0; i < roles_.size(); ++i) {
      RoleState& role = roles_[i];
      if (!role.started || role.registered || role.again) continue;
      if (now_ms >= role.started_ms + options_.hang_ms && role.idle_since_ms.has_value() &&
          now_ms >= *role.idle_since_ms + options_.idle_ms) {
        Suspect({fmt::format("{} hangs: {} after its start it has not {}{}, and does nothing",
                             Name(i), FormatDuration(now_ms - role.started_ms),
                             i == 0 ? "begun to listen" : "registered with the master", Sized(i)),
                 i},
                /*certain=*/true, now_ms);
        return;
      }
      if (!role.warned && now_ms >= role.started_ms + options_.start_warning_ms) {
        role.warned = true;
        messages_.push_back(fmt::format(
            "warning: {} has not {} for {}{}; the job waits for it until {} after its start "
            "(cluster.startTimeoutS)",
            Name(i), i == 0 ? "begun to listen" : "registered with the master",
            FormatDuration(options_.start_warning_ms), Sized(i),
            FormatDuration(options_.start_timeout_ms)));
      }
      if (now_ms < role.started_ms + options_.start_timeout_ms) continue;
      Suspect({fmt::format("{} did not {} within {} of its start{}; more time: "
                           "cluster.startTimeoutS",
                           Name(i), i == 0 ? "listen" : "register with the master",
                           FormatDuration(options_.start_timeout_ms), Sized(i)),
               i},
              /*certain=*/true, now_ms);
    }
    if (options_.max_running_ms > 0 && running_ms_ != 0 &&
        now_ms >= running_ms_ + options_.max_running_ms && phase_ == Phase::kFollowing) {
      Cancel(TimeIsOver(options_.max_running_ms), now_ms);
    } else if (phase_ == Phase::kFollowing && now_ms >= StopBy(now_ms)) {
      Cancel(BudgetIsUsedUp(options_.rent->max_cost), now_ms);
    } else if (phase_ == Phase::kFollowing && idle_.IsIdle(now_ms)) {
      Cancel(IdleReason(options_.idle), now_ms);
    }
    return;
  }
  // The master is gone: nobody will tell the others to leave.
  const bool orphaned = roles_[0].exit.has_value();
  if ((phase_ == Phase::kDraining || phase_ == Phase::kEnding) && orphaned &&
      deadline_ms_ > now_ms + options_.terminate_ms) {
    deadline_ms_ = now_ms + options_.terminate_ms;
  }
  if (now_ms < deadline_ms_) return;
  if (phase_ == Phase::kTerminating) {
    Kill();
  } else if (phase_ != Phase::kKilling) {
    Terminate(now_ms);
  }
}

std::vector<Follower::Action> Follower::TakeActions() { return std::exchange(actions_, {}); }

std::vector<std::string> Follower::TakeMessages() { return std::exchange(messages_, {}); }

int64_t Follower::StopBy(int64_t now_ms) const {
  return options_.rent == nullptr ? Bill::kNever : options_.rent->StopBy(now_ms);
}

void Follower::Cancel(const std::string& reason, int64_t now_ms) {
  cancel_reason_ = reason;
  messages_.push_back(reason + ": finishing the step and saving a checkpoint");
  actions_.push_back(Action::kInterruptMaster);
  Enter(Phase::kDraining, now_ms + options_.drain_ms);
}

int64_t Follower::NextDeadline() const {
  if (phase_ != Phase::kFollowing) return deadline_ms_;
  int64_t next = kNever;
  for (const RoleState& role : roles_) {
    if (role.started && !role.registered && !role.again) {
      next = std::min(next, role.started_ms + (role.warned ? options_.start_timeout_ms
                                                           : std::min(options_.start_warning_ms,
                                                                      options_.start_timeout_ms)));
    }
  }
  if (options_.max_running_ms > 0 && running_ms_ != 0) {
    next = std::min(next, running_ms_ + options_.max_running_ms);
  }
  // Prices do not change meanwhile.
  next = std::min(next, StopBy(began_ms_));
  return next;
}

bool Follower::done() const {
  return std::all_of(roles_.begin(), roles_.end(),
                     [](const RoleState& role) { return !role.started || role.exit.has_value(); });
}

int64_t Follower::EndsBy(int64_t now_ms) const {
  const int64_t stop = StopBy(now_ms);
  if (options_.max_running_ms <= 0) return stop == Bill::kNever ? 0 : stop;
  return std::min(stop, (running_ms_ != 0 ? running_ms_ : now_ms) + options_.max_running_ms);
}

DisplayState Follower::Display(int64_t now_ms) const {
  DisplayState display;
  display.job_id = options_.job_id;
  display.state = phase_ == Phase::kDraining ? RunState::kCancelling : state_;
  display.stage = stage_;
  display.step = progress_.step;
  display.total_steps = progress_.total_steps;
  display.loss = progress_.loss;
  display.validation_accuracy = progress_.validation_accuracy;
  display.samples_per_second = progress_.samples_per_second;
  display.lagging = progress_.lagging;
  // A launcher that has attached was not there when the run began.
  display.elapsed_ms =
      now_ms - (roles_[0].started ? std::min(began_ms_, roles_[0].started_ms) : began_ms_);
  display.roles = static_cast<int>(roles_.size());
  for (const RoleState& role : roles_) display.ready_roles += role.ready ? 1 : 0;
  if (ms_per_step_ > 0 && state_ == RunState::kRunning) {
    const double left = ms_per_step_ * static_cast<double>(progress_.total_steps - progress_.step) -
                        static_cast<double>(now_ms - progress_ms_);
    display.eta_ms = std::max<int64_t>(0, static_cast<int64_t>(left));
  }
  if (options_.rent != nullptr && options_.rent->bill.PerHour() > 0) {
    display.cost = options_.rent->bill.Cost(now_ms);
    display.cost_per_hour = options_.rent->bill.PerHour();
  }
  return display;
}

RunState Follower::outcome() const {
  if (failure_.has_value()) return RunState::kFailed;
  if (state_ == RunState::kSucceeded) return RunState::kSucceeded;
  if (interrupted_ || !cancel_reason_.empty()) return RunState::kCancelled;
  return state_ == RunState::kCancelled ? RunState::kCancelled : RunState::kFailed;
}

int Follower::exit_code() const {
  if (outcome() == RunState::kSucceeded) return 0;
  if (interrupted_) return 130;
  return wrong_input_ ? 2 : 1;
}

}  // namespace muster::cluster
