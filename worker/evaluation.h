// What a model answers over a data set, or over one replica's share of it. A free function; models
// and loaders are the caller's for the time of the call.
#pragma once

#include <cstdint>
#include <functional>

#include "telemetry/status.h"
#include "worker/loader_group.h"
#include "worker/model_group.h"
#include "worker/module.h"

namespace muster::worker {

// Counts the answers (the class of the largest logit) of the models with `weights` (arenas) over
// `share` of the loaders' samples, which come in the order of EvaluationOrder: each model answers
// its part of each batch (ShareOf), all at the same time. Before each batch `on_batch` hears how
// many samples are done; its failure ends the evaluation. Fails also when a sample cannot be read,
// or a device fails. PRECONDITION: no model's stream waits for another's.
absl::StatusOr<Confusion> Evaluate(ModelGroup& models, ConstArenas weights, LoaderGroup& loaders,
                                   int32_t share,
                                   const std::function<absl::Status(int64_t done)>& on_batch);

}  // namespace muster::worker
