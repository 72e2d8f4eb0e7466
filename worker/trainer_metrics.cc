#include "worker/trainer_metrics.h"

namespace muster::worker {

void TrainerMetrics(const TrainerStats& stats, std::vector<Metric>& out) {
  out.push_back({.name = "muster_trainer_steps_total",
                 .help = "Steps finished since this trainer started",
                 .value = static_cast<double>(stats.steps)});
  out.push_back({.name = "muster_trainer_samples_total",
                 .help = "Samples of these steps, over the trainer's replicas",
                 .value = static_cast<double>(stats.samples)});
  out.push_back({.name = "muster_trainer_missed_steps_total",
                 .help = "Steps that did without a gradient of the trainer's replicas",
                 .value = static_cast<double>(stats.missed)});
  const auto phase = [&out](const char* name, double milliseconds) {
    out.push_back({.name = "muster_trainer_step_seconds_total",
                   .help = "Wall time of the steps by what the trainer did",
                   .labels = {{"phase", name}},
                   .value = milliseconds / 1000});
  };
  phase("data", stats.times.data);
  phase("compute", stats.times.compute);
  phase("push", stats.times.push);
  phase("wait", stats.times.wait);
  phase("pull", stats.times.pull);
}

}  // namespace muster::worker
