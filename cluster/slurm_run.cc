#include "cluster/slurm_run.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <utility>

#include "cluster/command.h"
#include "cluster/hosts_run.h"
#include "cluster/signals.h"
#include "cluster/slurm.h"
#include "cluster/ssh.h"
#include "cluster/tool.h"
#include "master/job_directory.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr int64_t kToolMs = 30'000;
constexpr int64_t kLookMs = 500, kMaxLookMs = 10'000;
// For what comes before and after training.
constexpr int64_t kAroundTrainingSeconds = 900;

class SlurmRun {
 public:
  SlurmRun(const Slurm& slurm, const Plan& plan, int64_t max_wait_s, const LocalOptions& options,
           std::string build_id)
      : slurm_(slurm),
        components_(SlurmComponents(plan)),
        max_wait_s_(max_wait_s),
        options_(options),
        build_id_(std::move(build_id)),
        path_variable_(Variable(options.environment, "PATH")) {}

  ~SlurmRun() {
    if (!job_.empty()) (void)Ask({"scancel", job_}).ok();
  }
  SlurmRun(const SlurmRun&) = delete;
  SlurmRun& operator=(const SlurmRun&) = delete;

  absl::StatusOr<int> Run(const std::function<LocalJob(int threads)>& make_job) {
    const LocalJob draft = make_job(1);
    RETURN_IF_ERROR(CheckFree(draft.job_id));
    RETURN_IF_ERROR(Submit(draft));
    ASSIGN_OR_RETURN(const std::vector<SlurmStatus> running, AwaitStart());
    if (running.empty()) return kInterrupted;
    HostsRun run;
    RETURN_IF_ERROR(PlaceHosts(running, draft, &run));
    run.job_folder = fmt::format("{}/jobs/{}", Directory(), draft.job_id);
    run.build_id = build_id_;
    run.make_job = make_job;
    return RunOnHosts(run, options_);
  }

 private:
  std::string Directory() const {
    return slurm_.directory().empty() ? "~/.muster" : slurm_.directory();
  }

  // The output of a command of Slurm's.
  absl::StatusOr<std::string> Ask(const std::vector<std::string>& words) const {
    auto result = RunTool(words, options_.environment, path_variable_, kToolMs);
    if (absl::IsNotFound(result.status())) {
      return absl::NotFoundError(fmt::format(
          "there is no program {} in PATH: run launch where Slurm's commands are", words.front()));
    }
    RETURN_IF_ERROR(result.status());
    if (result->code != 0) {
      return absl::FailedPreconditionError(
          fmt::format("{}: {}", words.front(), ExplainSlurm(result->err)));
    }
    return std::move(result->out);
  }

  absl::Status CheckFree(const std::string& job_id) const {
    ASSIGN_OR_RETURN(const std::string text,
                     Ask({"squeue", "-h", "--me", "--name=" + job_id, "-o", kSlurmFormat}));
    ASSIGN_OR_RETURN(const std::vector<SlurmStatus> found, ParseSqueue(text));
    if (found.empty()) return absl::OkStatus();
    return absl::FailedPreconditionError(
        fmt::format("Slurm has a job of this name, {} ({}): wait for it, run scancel {}, or give "
                    "this one another name with --job-id",
                    found[0].job, found[0].state, found[0].job));
  }

  absl::Status Submit(const LocalJob& job) {
    const master::JobDirectory dir(job.job_dir);
    RETURN_IF_ERROR(master::CreateJobDirectory(dir));
    const std::string logs = std::filesystem::absolute(dir.logs()).string();
    const std::string script = dir.root() + "/slurm.sh";
    RETURN_IF_ERROR(WriteFileAtomically(
        script, SlurmScript({.job_id = job.job_id,
                             .log_path = logs + "/slurm-%j.log",
                             .max_running_s = job.max_running_ms / 1000 + kAroundTrainingSeconds,
                             .components = components_},
                            slurm_)));
    ASSIGN_OR_RETURN(const std::string said, Ask({"sbatch", "--parsable", script}));
    // "12" or "12;cluster"
    job_ = said.substr(0, said.find_first_of(";\n"));
    if (job_.empty() || job_.find_first_not_of("0123456789") != std::string::npos) {
      const std::string what = std::exchange(job_, "");
      return absl::InternalError(fmt::format("sbatch says what is no job: {}", what));
    }
    Say(fmt::format("Slurm job {}", job_));
    return absl::OkStatus();
  }

  // Its components, once they run; none when the user has had enough of waiting.
  absl::StatusOr<std::vector<SlurmStatus>> AwaitStart() const {
    Signals signals;
    std::string told;
    const int64_t begun = MonotonicMillis();
    for (;;) {
      ASSIGN_OR_RETURN(const std::string text,
                       Ask({"squeue", "-h", "-j", job_, "-o", kSlurmFormat}));
      ASSIGN_OR_RETURN(std::vector<SlurmStatus> status, ParseSqueue(text));
      bool all_run = status.size() == components_.size(), waits = false;
      for (const SlurmStatus& component : status) {
        all_run = all_run && component.state == "RUNNING";
        waits |= component.state == "PENDING" || component.state == "CONFIGURING";
      }
      if (all_run) return status;
      if (!waits) {
        return absl::UnavailableError(fmt::format(
            "Slurm ended job {} before it began: scontrol show job {} says why", job_, job_));
      }
      if (status[0].reason != told && status[0].reason != "None" && status[0].state == "PENDING") {
        told = status[0].reason;
        Say(fmt::format("waiting for nodes: {} ({} min at most; Ctrl-C gives up)", told,
                        max_wait_s_ / 60));
      }
      if (MonotonicMillis() - begun > max_wait_s_ * 1000) {
        return absl::DeadlineExceededError(
            fmt::format("Slurm gave no nodes within scheduling.maxWaitTime ({})", told));
      }
      pollfd interrupt{signals.fd(), POLLIN, 0};
      // Ever more seldom: a controller serves many.
      const int64_t pause = std::min(kMaxLookMs, kLookMs + (MonotonicMillis() - begun) / 10);
      poll(&interrupt, 1, static_cast<int>(pause));
      if (signals.Take() != 0) return std::vector<SlurmStatus>();
    }
  }

  // One host for each node of each component; roles in the order of machines.
  absl::Status PlaceHosts(const std::vector<SlurmStatus>& running, const LocalJob& job,
                          HostsRun* run) const {
    std::map<std::string, std::vector<size_t>> machines;  // by role: hosts
    for (size_t k = 0; k < running.size(); ++k) {
      ASSIGN_OR_RETURN(const std::string names,
                       Ask({"scontrol", "show", "hostnames", running[k].nodes}));
      for (const auto line : absl::StrSplit(names, '\n', absl::SkipWhitespace())) {
        const std::string node(line.data(), line.size());
        ASSIGN_OR_RETURN(RunHost host, HostOf(running.size() > 1 ? static_cast<int>(k) : -1, node,
                                              components_[k].cpus));
        machines[RoleProgram(components_[k].role)].push_back(run->hosts.size());
        run->hosts.push_back(std::move(host));
      }
    }
    for (const LocalRole& role : job.roles) {
      const bool on_master = role.role == "master" || role.role == "chief";
      const std::vector<size_t>& hosts = machines[on_master ? "master" : role.role];
      const auto index = on_master ? size_t{0} : static_cast<size_t>(role.index);
      if (index >= hosts.size()) {
        return absl::InternalError(
            fmt::format("Slurm gave {} nodes for {}s", hosts.size(), role.role));
      }
      run->host_of_role.push_back(hosts[index]);
    }
    return absl::OkStatus();
  }

  static const char* RoleProgram(Role role) {
    return role == Role::kWorker ? "worker" : role == Role::kParameterServer ? "ps" : "master";
  }

  absl::StatusOr<RunHost> HostOf(int component, const std::string& node, int cpus) const {
    ASSIGN_OR_RETURN(const std::string about, Ask({"scontrol", "-o", "show", "node", node}));
    RunHost host;
    for (const auto word : absl::StrSplit(about, ' ')) {
      constexpr std::string_view kKey = "NodeAddr=";
      const std::string_view text(word.data(), word.size());
      if (text.starts_with(kKey)) host.address = std::string(text.substr(kKey.size()));
    }
    host.address_field = "slurm.conf's NodeAddr";
    host.link.name = node;
    Ssh programs;
    programs.set_programs(slurm_.programs().empty() ? options_.program_dir : slurm_.programs());
    host.link.argv = SrunWords(job_, component, node, cpus, NodeScript(programs, build_id_));
    host.link.argv.front() = FindProgram("srun", path_variable_);
    host.link.environment = options_.environment;
    host.link.explain = ExplainSlurm;
    return host;
  }

  void Say(const std::string& line) const { Tell(options_, line); }

  const Slurm& slurm_;
  const std::vector<SlurmComponent> components_;
  const int64_t max_wait_s_;
  const LocalOptions& options_;
  const std::string build_id_, path_variable_;
  std::string job_;  // Slurm's number; "": none is queued
};

}  // namespace

int RunOnSlurm(const Slurm& slurm, const Plan& plan, int64_t max_wait_s,
               const std::function<LocalJob(int threads)>& make_job, const LocalOptions& options,
               const std::string& build_id) {
  return ExitCodeOf(SlurmRun(slurm, plan, max_wait_s, options, build_id).Run(make_job), options);
}

}  // namespace muster::cluster
