// Loader: whole batches for work items, made ahead by a few threads.
//
// The samples of item (step, v) are positions p = (step * V + v) * batch + i of an endless training sequence; position p is sample
// Permute(n, epoch, p % n) of epoch p / n, drawn with `draw` = p. So a batch is a function of (seed, step, v) alone: neither threads nor
// processes nor restarts change it, and V replicas with batch B see the samples of one replica with batch V * B.
//
// Next is called by one thread; Cancel is thread-safe. The destructor stops the threads promptly.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "telemetry/status.h"
#include "worker/dataset.h"
#include "worker/model.h"

namespace muster::worker {

struct LoaderOptions {
  int num_replicas = 1;         // V
  std::vector<int32_t> leases;  // replicas asked for, rising
  int64_t batch_size = 0;
  uint64_t seed = 0;
  int64_t start = 0;  // first step asked for
  int threads = 1;
  int ahead = 2;      // batches made before they are asked for
};

class Loader {
 public:
  Loader(std::shared_ptr<const Dataset> dataset, LoaderOptions options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // The batch of item (step, replica); valid until the next call. Items are asked for in order: steps rising from `start`, the leases of a
  // step rising. Blocks until it is made; fails with the data set's error, or with the status of Cancel.
  absl::StatusOr<Batch> Next(int64_t step, int32_t replica);
  // Makes Next return `status`.
  void Cancel(absl::Status status);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace muster::worker
