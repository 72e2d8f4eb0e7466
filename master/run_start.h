// RunStart: what is settled before the first step of a run, and does not change after: its module,
// its parameters, and the clocks between which it trains.
//
// A value, made once by FindRunStart and then only read.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "configs/job.pb.h"
#include "master/job_directory.h"
#include "master/job_state.h"
#include "ps/param.h"
#include "telemetry/status.h"
#include "worker/module.h"

namespace muster::master {

struct RunStart {
  std::unique_ptr<worker::Module> module;
  ps::ParamTable table;  // of the module's model
  RunIdentity identity;
  std::optional<Checkpoint> resume;   // where it goes on from; nullopt: from the beginning
  int64_t start = 0, total = 0;       // clocks: the first, and the one at which the job is done
  std::vector<std::string> warnings;  // for the user, about the checkpoints
};

// Looks at the checkpoints in `dir` with the job's `module`. Fails when they do not fit the job or
// lie beyond its end.
absl::StatusOr<RunStart> FindRunStart(const Job& job, const JobDirectory& dir, int replicas,
                                      const std::string& build_id,
                                      std::unique_ptr<worker::Module> module);

// What the replicas had not sent at the checkpoint is in none of its files, as with one of an older
// build, and there are steps that it would change.
bool LosesResiduals(const RunStart& run);

// state.json at the start of a run. One that resumes goes on from what the runs before it left in
// `dir`.
JobState InitialState(const Job& job, const JobDirectory& dir, const RunStart& run, int64_t now_ms);

}  // namespace muster::master
