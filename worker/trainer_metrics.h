// What a trainer has done as metrics.
//
// Pure function: thread-safe.
#pragma once

#include <vector>

#include "telemetry/metrics.h"
#include "worker/trainer.h"

namespace muster::worker {

// Appends "muster_trainer_…" (docs/metrics.md).
void TrainerMetrics(const TrainerStats& stats, std::vector<Metric>& out);

}  // namespace muster::worker
