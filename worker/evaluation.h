// What a model answers over a data set, or over one replica's share of it. A free function; model
// and loader are the caller's for the time of the call.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "telemetry/status.h"
#include "worker/loader.h"
#include "worker/model.h"
#include "worker/module.h"

namespace muster::worker {

// Counts the answers (the class of the largest logit) of `model` with `weights` (arena) over
// `share` of the loader's samples, which come in the order of EvaluationOrder. Before each batch
// `on_batch` hears how many samples are done; its failure ends the evaluation. Fails also when a
// sample cannot be read.
absl::StatusOr<Confusion> Evaluate(Model& model, std::span<const float> weights, Loader& loader,
                                   int32_t share,
                                   const std::function<absl::Status(int64_t done)>& on_batch);

}  // namespace muster::worker
