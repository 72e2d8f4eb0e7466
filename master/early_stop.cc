#include "master/early_stop.h"

#include <algorithm>

namespace muster::master {

EarlyStop::Action EarlyStop::OnHeld(const RoleId& trainer, int64_t begun) {
  if (target_.has_value()) return Action::kWait;
  held_.insert(RoleName(trainer));
  most_begun_ = std::max(most_begun_, begun);
  if (static_cast<int>(held_.size()) < run_.trainers) return Action::kWait;
  target_ = std::min(most_begun_ + 1, run_.total);
  const bool cut_known =
      *target_ == run_.total || (run_.cut_interval > 0 && *target_ % run_.cut_interval == 0);
  return cut_known ? Action::kGo : Action::kCut;
}

EarlyStop::Action EarlyStop::OnCutAccepted(const RoleId& server) {
  if (!target_.has_value()) return Action::kWait;
  const bool is_new = accepted_.insert(RoleName(server)).second;
  return is_new && static_cast<int>(accepted_.size()) == run_.servers ? Action::kGo : Action::kWait;
}

}  // namespace muster::master
