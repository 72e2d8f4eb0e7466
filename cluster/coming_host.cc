#include "cluster/coming_host.h"

#include <utility>

#include "telemetry/time.h"

namespace muster::cluster {

ComingHost::ComingHost(RunHost way, int64_t connect_ms)
    : way_(std::move(way)), deadline_ms_(MonotonicMillis() + connect_ms) {}

absl::StatusOr<bool> ComingHost::Look(const NodeLink& link, bool opened, const Run& run) {
  const int64_t now = MonotonicMillis();
  // While programs travel there is no hurry.
  if (link.sending()) deadline_ms_ = now + run.connect_ms;
  if (!link.status().ok() || now >= deadline_ms_) return absl::UnavailableError("");
  if (link.hello() && !std::exchange(asked_, true)) RETURN_IF_ERROR(run.open(way_));
  if (!opened) return false;
  ASSIGN_OR_RETURN(const bool has_data, HasData(run));
  deadline_ms_ = now + run.connect_ms;
  return has_data;
}

absl::StatusOr<bool> ComingHost::HasData(const Run& run) {
  if (!std::exchange(data_begun_, true) && run.send_data) {
    ASSIGN_OR_RETURN(data_, run.send_data(way_));
  }
  return data_ == nullptr ? true : data_->Look(run.say);
}

}  // namespace muster::cluster
