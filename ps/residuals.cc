#include "ps/residuals.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace muster::ps {

bool HasResiduals(const ParamTable& table) {
  return std::ranges::any_of(table.specs(), [](const ParamSpec& spec) {
    return spec.codec != nullptr && spec.codec->has_residual();
  });
}

std::string ResidualPartPath(const std::string& directory, int32_t replica) {
  return fmt::format("{}/replica-{}.safetensors", directory, replica);
}

absl::Status RestoreResiduals(Client& client, const ParamTable& table, int32_t replica,
                              const std::string& file, int64_t clock) {
  ASSIGN_OR_RETURN(const Checkpoint saved, Checkpoint::Open({file}, table));
  const std::string* of = saved.metadata("replica");
  if (saved.clock() != clock || of == nullptr || *of != std::to_string(replica)) {
    return absl::FailedPreconditionError(
        fmt::format("{}: it is of replica {} at clock {}, not of {} at {}", file,
                    of == nullptr ? "none" : *of, saved.clock(), replica, clock));
  }
  return client.RestoreResiduals(replica, saved);
}

ResidualSaver::ResidualSaver(Client& client, const ParamTable& table, const Partition& partition,
                             std::vector<int32_t> replicas, std::string directory, OnSaved on_saved)
    : client_(client),
      table_(table),
      partition_(partition),
      replicas_(std::move(replicas)),
      directory_(std::move(directory)),
      on_saved_(std::move(on_saved)) {}

ResidualSaver::~ResidualSaver() {
  if (writing_.joinable()) writing_.join();
}

void ResidualSaver::AddCut(int64_t clock) {
  MutexLock lock(mu_);
  cuts_.insert(clock);
}

void ResidualSaver::OnClock(int64_t clock) {
  std::vector<int64_t> due;
  {
    MutexLock lock(mu_);
    const auto end = cuts_.upper_bound(clock);
    due.assign(cuts_.begin(), end);
    cuts_.erase(cuts_.begin(), end);
  }
  if (due.empty()) return;
  if (writing_.joinable()) writing_.join();
  std::vector<Copy> copies;
  for (const int32_t replica : replicas_) copies.push_back({replica, client_.Residuals(replica)});
  writing_ = std::thread([this, due = std::move(due), copies = std::move(copies)] {
    for (const int64_t cut : due) Write(cut, copies);
  });
}

void ResidualSaver::Write(int64_t clock, const std::vector<Copy>& copies) const {
  for (const Copy& copy : copies) {
    const std::string path =
        ResidualPartPath(fmt::format("{}/step-{}", directory_, clock), copy.replica);
    const absl::Status status =
        copy.slices.ok()
            ? WriteCheckpointPart(path, table_, partition_, /*slot_names=*/{}, clock, *copy.slices,
                                  {{"replica", std::to_string(copy.replica)}})
            : copy.slices.status();
    on_saved_(clock, copy.replica, path, status);
  }
}

}  // namespace muster::ps
