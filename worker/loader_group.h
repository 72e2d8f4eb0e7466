// LoaderGroup: the batches of an item for several devices, each a share of it (ShareOf in
// worker/shuffle.h), from a loader for each.
//
// Owned and called by one thread, the models'; owns the loaders.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "telemetry/status.h"
#include "worker/loader.h"

namespace muster::worker {

class LoaderGroup {
 public:
  // One for each device, in their order. PRECONDITION: at least one.
  explicit LoaderGroup(std::vector<std::unique_ptr<Loader>> loaders);

  size_t size() const { return loaders_.size(); }
  Loader& operator[](size_t device) { return *loaders_[device]; }
  // As Loader's, of all of them.
  void SetReplicas(const std::vector<int32_t>& replicas, int64_t step);
  // The shares of (step, replica), by device: they know their places in the whole. As Loader's.
  absl::StatusOr<std::span<const Batch>> Next(int64_t step, int32_t replica);

 private:
  const std::vector<std::unique_ptr<Loader>> loaders_;
  std::vector<Batch> shares_;
};

}  // namespace muster::worker
