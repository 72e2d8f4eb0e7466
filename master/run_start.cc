#include "master/run_start.h"

#include <fmt/format.h>

#include <utility>

#include "configs/codec_text.h"
#include "configs/schedule.h"
#include "kernels/device.h"
#include "master/codecs.h"
#include "master/resume.h"
#include "master/roles.h"
#include "ps/residuals.h"

namespace muster::master {
bool LosesResiduals(const RunStart& run) {
  return run.start > 0 && run.start < run.total && ps::HasResiduals(run.table) &&
         static_cast<int>(run.resume->manifest.residuals.size()) != run.identity.replicas;
}

absl::StatusOr<RunStart> FindRunStart(const Job& job, const JobDirectory& dir, int replicas,
                                      const std::string& build_id,
                                      std::unique_ptr<worker::Module> module) {
  RunStart run;
  run.module = std::move(module);
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  std::vector<ps::ParamSpec> params = run.module->MakeModel(*device)->params();
  RETURN_IF_ERROR(SetCodecs(job.training().codec(), &params));
  ASSIGN_OR_RETURN(run.table, ps::ParamTable::Make(std::move(params)));
  run.identity = IdentityOf(job, replicas, run.table, build_id);
  ASSIGN_OR_RETURN(run.resume, FindResumePoint(dir, run.identity, &run.warnings));
  run.start = run.resume.has_value() ? run.resume->step : 0;
  run.total = TotalSteps(job.training());
  if (run.start > run.total) {
    return absl::FailedPreconditionError(fmt::format(
        "{} holds a checkpoint of step {}, beyond the {} steps of the job; ask for more steps or "
        "another --job-dir",
        dir.root(), run.start, run.total));
  }
  if (LosesResiduals(run)) {
    run.warnings.push_back(
        fmt::format("the checkpoint of step {} does not hold what training.codec ({}) has left to "
                    "send: the result will not be bit-identical to an uninterrupted run",
                    run.start, FormatCodec(job.training().codec())));
  }
  return run;
}

JobState InitialState(const Job& job, const JobDirectory& dir, const RunStart& run,
                      int64_t now_ms) {
  JobState state;
  state.job_id = job.job_id();
  state.state = RunState::kPreparing;
  state.create_ms = now_ms;
  if (auto previous = ReadJobState(dir.state_json()); previous.ok()) {
    if (previous->create_ms != 0) state.create_ms = previous->create_ms;
    if (run.resume.has_value()) {
      state.metrics = previous->metrics;
      state.best_checkpoint = previous->best_checkpoint;
    }
  }
  state.step = run.start;
  state.total_steps = run.total;
  state.resumed_from = run.resume.has_value() ? run.start : -1;
  state.exact = job.training().consistency().mode() == Consistency::BSP &&
                job.training().consistency().backup_workers() == 0 && !LosesResiduals(run) &&
                (!run.resume.has_value() || run.resume->manifest.exact);
  return state;
}

}  // namespace muster::master
