// Where a run starts: at the newest checkpoint that fits the job, or at the beginning.
//
// Free functions, thread-safe.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "configs/job.pb.h"
#include "master/job_directory.h"
#include "master/membership.h"
#include "master/run_start.h"
#include "ps/param.h"
#include "telemetry/status.h"

namespace muster::master {

// What the weights of this job are a function of, but for its data. `args` of the job are the
// module's own flags; where its data lies does not matter.
RunIdentity IdentityOf(const Job& job, int replicas, const ps::ParamTable& table,
                       const std::string& build_id);

// The checkpoint to go on from; nullopt: there is none, start at the beginning. Fails when there
// are checkpoints but none is whole, or when the job has changed in a way that affects the result.
// Things worth saying are appended to `warnings`.
absl::StatusOr<std::optional<Checkpoint>> FindResumePoint(const JobDirectory& dir,
                                                          const RunIdentity& identity,
                                                          std::vector<std::string>* warnings);

// RunIdentity.device, once all of the run's trainers have registered.
std::string DevicesOf(const std::vector<Member>& members);
// What is to be said about going on with `identity` that run.warnings do not say yet.
std::vector<std::string> NewWarnings(const RunStart& run, const RunIdentity& identity);

// Clocks to save after `start`: every `interval` steps and at the end; rising.
std::vector<int64_t> CutClocks(int64_t start, int64_t total, int64_t interval);

}  // namespace muster::master
