#include "cluster/idle_watch.h"

#include <fmt/format.h>

#include <algorithm>

#include "telemetry/time.h"

namespace muster::cluster {

std::string IdleReason(const IdleLimit& limit) {
  return fmt::format("no machine was busier than {:.0f} % for {} (cluster.idle)",
                     limit.busy_below * 100, FormatDuration(limit.for_ms));
}

void IdleWatch::OnUse(size_t machine, double share, int64_t now_ms) {
  if (share > limit_.busy_below) {
    idle_since_ms_.erase(machine);
  } else {
    idle_since_ms_.emplace(machine, now_ms);
  }
}

bool IdleWatch::IsIdle(int64_t now_ms) const {
  if (limit_.for_ms <= 0 || idle_since_ms_.size() < machines_) return false;
  return std::ranges::all_of(
      idle_since_ms_, [&](const auto& entry) { return now_ms - entry.second >= limit_.for_ms; });
}

}  // namespace muster::cluster
