#include "ps/job_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "configs/schedule.h"

namespace muster::ps {

absl::StatusOr<std::unique_ptr<const Optimizer>> OptimizerOf(const Training& training) {
  const OptimizerSpec& spec = training.optimizer();
  ASSIGN_OR_RETURN(auto optimizer, MakeOptimizer(spec.name().empty() ? "sgd" : spec.name(),
                                                 {spec.params().begin(), spec.params().end()}));
  if (optimizer->has_trust_ratio() && training.consistency().mode() != Consistency::BSP) {
    return absl::InvalidArgumentError(fmt::format(
        "optimizer '{}' needs norms of whole parameters, which only BSP has", optimizer->name()));
  }
  if ((optimizer->has_trust_ratio() || training.optimizer().clip_norm() > 0) &&
      training.consistency().backup_workers() > 0) {
    return absl::InvalidArgumentError(
        fmt::format("{} needs norms that the process of replica 0 sums up, which a step may do "
                    "without where there are backupWorkers",
                    optimizer->has_trust_ratio() ? optimizer->name() : "clipNorm"));
  }
  return optimizer;
}

absl::StatusOr<std::unique_ptr<const ConsistencyPolicy>> PolicyOf(const Training& training) {
  return MakeConsistencyPolicy(
      Consistency::Mode_Name(training.consistency().mode()), training.consistency().staleness(),
      training.consistency().scale_by_staleness(), training.consistency().backup_workers());
}

absl::StatusOr<std::unique_ptr<JobServer>> JobServer::Make(ParamTable table,
                                                           const Training& training,
                                                           int num_servers, ServerOptions options,
                                                           ServerEvents events, Log& log) {
  auto job = std::make_unique<JobServer>();
  job->table = std::move(table);
  job->partition = MakePartition(job->table, num_servers);
  ASSIGN_OR_RETURN(job->policy, PolicyOf(training));
  for (const ParamSpec& spec : job->table.specs()) {
    if (!SendsDeltas(spec.pull_codec.get()) || job->policy->exact()) continue;
    return absl::InvalidArgumentError(
        fmt::format("parameter '{}' is pulled as {} in differences, which only BSP has; pull it as "
                    "fp16, bf16 or whole",
                    spec.name, spec.pull_codec->name()));
  }
  if (job->policy->backups() >= options.num_replicas) {
    return absl::InvalidArgumentError(
        fmt::format("consistency.backupWorkers is {} of {} replicas: no gradient would count",
                    job->policy->backups(), options.num_replicas));
  }
  ASSIGN_OR_RETURN(job->optimizer, OptimizerOf(training));
  options.num_shards = std::max(1, training.server_shards());
  options.seed = training.seed();
  options.weight_decay = static_cast<float>(training.optimizer().weight_decay());
  const double clip_value = training.optimizer().clip_value();
  if (clip_value > 0) options.clip_value = static_cast<float>(clip_value);
  const double clip_norm = training.optimizer().clip_norm();
  if (clip_norm > 0) options.clip_norm = static_cast<float>(clip_norm);
  job->server = Server::Make(
      job->table, job->partition, *job->policy, *job->optimizer,
      [training](int64_t step) { return static_cast<float>(LearningRate(training, step)); },
      std::move(options), std::move(events), log);
  return job;
}

}  // namespace muster::ps
