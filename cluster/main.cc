// The program `launch`. See docs/job-file.md, and `launch --help`.
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "cluster/command.h"
#include "cluster/doctor_command.h"
#include "cluster/evaluate_command.h"
#include "cluster/local.h"
#include "cluster/local_roles.h"
#include "cluster/plan_report.h"
#include "cluster/predict_command.h"
#include "telemetry/build_id.h"
#include "telemetry/cores.h"

namespace muster::cluster {
namespace {

// The folder of this program, where the roles' programs lie too.
std::string ProgramFolder() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "." : self.parent_path().string();
}

// Runs the job on this machine.
int RunHere(const ResolvedJob& resolved, char** environment) {
  Job complete = resolved.job;
  const int cores = UsableCores();
  if (complete.training().threads() == 0) {
    // What the roles use is written into job.yaml, so that a resume uses it too.
    int threads = 1;
    for (const LocalRole& role : LocalRoles(complete, cores)) {
      threads = std::max(threads, role.threads);
    }
    complete.mutable_training()->set_threads(threads);
  }
  LocalJob job = MakeLocalJob(complete, cores);
  PlanReport plan = MakePlanReport(complete);
  job.plan = std::move(plan.rows);
  job.settings = std::move(plan.settings);
  job.dollars_per_hour = plan.dollars_per_hour;
  for (const Substitution& substitution : resolved.substitutions) {
    job.substitutions.emplace_back(substitution.path, substitution.text);
  }
  LocalOptions options;
  options.program_dir = ProgramFolder();
  for (char** entry = environment; *entry != nullptr; ++entry) {
    options.environment.emplace_back(*entry);
  }
  const char* term = std::getenv("TERM");
  options.term = term == nullptr ? "" : term;
  return RunLocal(job, options);
}

}  // namespace
}  // namespace muster::cluster

int main(int argc, char** argv) {
  using namespace muster::cluster;
  const RunJob run = [](const ResolvedJob& resolved, const Plan&) {
    return RunHere(resolved, environ);
  };
  const muster::GpuSearch search =
      muster::DefaultGpuSearch(muster::BuildId(), std::getenv("HOME"), std::getenv("VIRTUAL_ENV"));
  const std::vector<Command> commands = {
      {"", "train a job", [&](const CommandContext& context) { return RunTrain(context, run); }},
      {"evaluate", "accuracy of a job directory's model on a split of its data, or of other data",
       RunEvaluateCommand},
      {"doctor", "whether this machine's GPU can be used, and computes what the CPU does",
       [&](const CommandContext& context) { return RunDoctorCommand(context, search); }},
      {"predict", "say what clips are, with the model of a job directory", RunPredictCommand},
  };
  CommandContext context;
  context.words.assign(argv + 1, argv + argc);
  context.resolve.find_gpu = [&] { return muster::GpuChain::Find(search).status(); };
  context.resolve.now = std::chrono::system_clock::now();
  return RunCommand(commands, context);
}
