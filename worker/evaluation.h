// What a model answers over a data set, or over one replica's share of it. A free function; the
// model is the caller's for the time of the call.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "telemetry/status.h"
#include "worker/dataset.h"
#include "worker/model.h"
#include "worker/module.h"

namespace muster::worker {

// Samples first, first + stride, first + 2 · stride …
struct EvaluationShare {
  int64_t first = 0, stride = 1;
};

// Counts the answers (the class of the largest logit) of `model` with `weights` (arena) over the
// share, in batches of at most `batch_size`. Before each batch `on_batch` hears how many samples
// are done; its failure ends the evaluation. Fails also when a sample cannot be read. PRECONDITION:
// the model is prepared for batches of `batch_size`.
absl::StatusOr<Confusion> Evaluate(Model& model, std::span<const float> weights,
                                   const Dataset& dataset, EvaluationShare share,
                                   int64_t batch_size,
                                   const std::function<absl::Status(int64_t done)>& on_batch);

}  // namespace muster::worker
