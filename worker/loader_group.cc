#include "worker/loader_group.h"

#include <utility>

#include "telemetry/check.h"

namespace muster::worker {

LoaderGroup::LoaderGroup(std::vector<std::unique_ptr<Loader>> loaders)
    : loaders_(std::move(loaders)), shares_(loaders_.size()) {
  CHECK(!loaders_.empty());
}

void LoaderGroup::SetReplicas(const std::vector<int32_t>& replicas, int64_t step) {
  for (const auto& loader : loaders_) loader->SetReplicas(replicas, step);
}

absl::StatusOr<std::span<const Batch>> LoaderGroup::Next(int64_t step, int32_t replica) {
  int64_t whole = 0;
  for (size_t i = 0; i < loaders_.size(); ++i) {
    ASSIGN_OR_RETURN(shares_[i], loaders_[i]->Next(step, replica));
    shares_[i].first = whole;
    whole += shares_[i].size;
  }
  for (Batch& share : shares_) share.whole = whole;
  return std::span<const Batch>(shares_);
}

}  // namespace muster::worker
