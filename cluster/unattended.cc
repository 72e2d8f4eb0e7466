#include "cluster/unattended.h"

#include <utility>

namespace muster::cluster {

void Unattended::OnRunning(int64_t now_ms) {
  if (!running_ms_) running_ms_ = now_ms;
}

void Unattended::OnEnd(int64_t now_ms) {
  if (!ended_ms_) ended_ms_ = now_ms;
}

void Unattended::OnInterrupt(int64_t now_ms) {
  // A second one would have it stop at once.
  if (phase_ == Phase::kGoing) Enter(Phase::kDraining, now_ms + options_.drain_ms, {});
}

std::optional<Unattended::Action> Unattended::Enter(Phase phase, int64_t deadline_ms,
                                                    Action action) {
  phase_ = phase;
  deadline_ms_ = deadline_ms;
  return action;
}

std::optional<Unattended::Action> Unattended::Tick(int64_t now_ms) {
  const bool asked = std::exchange(asked_, false);
  if (connected_ && !asked) return std::nullopt;
  if (phase_ == Phase::kKilling) return std::nullopt;
  if (!stay_ && !asked) return Enter(Phase::kKilling, 0, Action::kKillAll);
  if (phase_ == Phase::kTerminating) {
    if (now_ms < deadline_ms_) return std::nullopt;
    return Enter(Phase::kKilling, 0, Action::kKillAll);
  }
  const bool last_moment = options_.max_running_ms > 0 &&
                           now_ms >= opened_ms_ + options_.max_running_ms + options_.around_ms;
  const bool left_alone = ended_ms_ && now_ms >= *ended_ms_ + options_.patience_ms;
  if (last_moment || left_alone || (phase_ == Phase::kDraining && now_ms >= deadline_ms_)) {
    time_is_over_ |= last_moment;
    return Enter(Phase::kTerminating, now_ms + options_.terminate_ms, Action::kTerminateAll);
  }
  const bool over = options_.max_running_ms > 0 && running_ms_ &&
                    now_ms >= *running_ms_ + options_.max_running_ms;
  if (phase_ == Phase::kGoing && (over || asked)) {
    time_is_over_ |= over;
    return Enter(Phase::kDraining, now_ms + options_.drain_ms, Action::kInterruptMaster);
  }
  return std::nullopt;
}

}  // namespace muster::cluster
