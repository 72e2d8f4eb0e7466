#include "cluster/gc_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "cluster/bill_record.h"
#include "cluster/journal.h"
#include "cluster/machine_key.h"
#include "cluster/node_set.h"
#include "cluster/providers.h"
#include "cluster/resolve.h"
#include "cluster/stopped_machines.h"
#include "configs/scalar.h"

namespace muster::cluster {
namespace {

class Collector {
 public:
  Collector(std::FILE* out, const GcOptions& options, bool dry_run, bool all,
            const std::vector<std::string>& stopped)
      : out_(out),
        options_(options),
        tools_(MakeToolRunner(options.environment)),
        dry_run_(dry_run),
        all_(all),
        stopped_(stopped) {}

  // Those of a job that has a journal.
  void CollectJournal(const std::string& job_id) {
    const auto journal = MachineJournal::TakeOver(options_.folder, job_id);
    if (absl::IsNotFound(journal.status())) return;
    if (!journal.ok()) {
      living_.insert(job_id);
      // A launcher that lives is as it should be.
      if (!absl::IsFailedPrecondition(journal.status())) ++left_;
      return Tell(job_id, std::string(journal.status().message()));
    }
    const Cluster& cluster = (*journal)->head().cluster;
    if (!MakesMachines(cluster.provider()))
      return Tell(job_id, "its provider is none of this build's");
    AddProvider(cluster);
    const auto provider = Make(cluster);
    if ((*journal)->stopped_ms() != 0 && std::ranges::count(stopped_, job_id) == 0) {
      living_.insert(job_id);
      return TellStopped(*provider, **journal);
    }
    const auto left = IsLeft(*provider, **journal, patience_.now_ms());
    if (!left.ok() || *left) {
      living_.insert(job_id);
      if (left.ok()) return Tell(job_id, LeftText(**journal));
      ++left_;
      return Tell(job_id, std::string(left.status().message()));
    }
    if (dry_run_) {
      living_.insert(job_id);
      // Where nothing was asked for, whatever is there is another's.
      return (*journal)->asked_ms() == 0 ? Tell(job_id, "nothing is left")
                                         : Show(*provider, job_id);
    }
    if (const absl::Status given = GiveBackMachines(*provider, **journal, patience_); !given.ok()) {
      ++left_;
      living_.insert(job_id);
      return Tell(job_id, std::string(given.message()));
    }
    RemoveMachineKey(options_.folder, job_id);
    // The directory may be gone.
    NoteGivenBack((*journal)->head().job_dir, patience_.now_ms()).IgnoreError();
    Tell(job_id, "nothing is left");
  }

  void AddProvider(const Cluster& cluster) {
    const std::string name = cluster.SerializeAsString();
    if (std::ranges::count(seen_, name) > 0) return;
    seen_.push_back(name);
    clusters_.push_back(cluster);
  }

  // Those that have no journal here.
  void CollectStrays() {
    for (const Cluster& cluster : clusters_) {
      const auto provider = Make(cluster);
      const auto machines = provider->List("");
      if (!machines.ok()) {
        ++left_;
        fmt::print(out_, "{}: {}\n", Cluster::Provider_Name(cluster.provider()),
                   std::string(machines.status().message()));
        continue;
      }
      std::map<std::string, std::vector<Machine>> jobs;
      for (const Machine& machine : *machines) {
        if (machine.state != MachineState::kGone) jobs[machine.job_id].push_back(machine);
      }
      for (const auto& [job, its] : jobs) CollectStray(*provider, job, its);
    }
  }

  int exit_code() const { return left_ == 0 ? kSucceeded : kJobFailed; }

 private:
  std::unique_ptr<Provider> Make(const Cluster& cluster) const {
    return MakeProvider(
        {.cluster = cluster, .tools = tools_, .patience = patience_, .public_key = ""});
  }

  void Tell(const std::string& job_id, const std::string& text) const {
    fmt::print(out_, "{}: {}\n", job_id, text);
  }

  // They were to stop and stay; one that runs was started by somebody, or never stopped.
  void TellStopped(Provider& provider, const MachineJournal& journal) {
    const std::string& job_id = journal.head().job_id;
    Tell(job_id, StoppedText(journal));
    const auto machines = provider.List(job_id);
    const int64_t run =
        !machines.ok() ? 0 : std::ranges::count(*machines, MachineState::kRunning, &Machine::state);
    if (machines.ok() && run == 0) return;
    ++left_;
    Tell(job_id, machines.ok()
                     ? fmt::format("{} of them run: {}", run, provider.ListCommand(job_id))
                     : std::string(machines.status().message()));
  }

  void Show(Provider& provider, const std::string& job_id) {
    const auto machines = provider.List(job_id);
    if (!machines.ok()) return Tell(job_id, std::string(machines.status().message()));
    int64_t there = 0;
    for (const Machine& machine : *machines) {
      if (machine.state == MachineState::kGone) continue;
      ++there;
      Tell(job_id, fmt::format("{} {} in {} would go", RoleName(machine.role), machine.id,
                               machine.place.zone));
    }
    if (there == 0) Tell(job_id, "nothing is left");
  }

  void CollectStray(Provider& provider, const std::string& job_id,
                    const std::vector<Machine>& machines) {
    if (living_.contains(job_id)) return;
    const std::string& owner = machines.front().owner;
    if (owner != options_.owner && !all_) {
      return Tell(job_id, fmt::format("{} machines of {} are left alone; --all takes them, too",
                                      machines.size(), owner));
    }
    if (dry_run_) return Show(provider, job_id);
    if (const absl::Status ended = EndMachines(provider, job_id, 0, patience_); !ended.ok()) {
      ++left_;
      return Tell(job_id, std::string(ended.message()));
    }
    Tell(job_id, fmt::format("{} machines given back", machines.size()));
  }

  std::FILE* const out_;
  const GcOptions& options_;
  const ToolRunner tools_;
  const bool dry_run_, all_;
  const std::vector<std::string>& stopped_;
  const Patience patience_ = RealPatience();
  std::set<std::string> living_;  // jobs whose machines are somebody's
  std::vector<std::string> seen_;
  std::vector<Cluster> clusters_;
  int left_ = 0;
};

}  // namespace

int RunGcCommand(const CommandContext& context, const GcOptions& options) {
  CLI::App app("Gives back machines that no living launch holds.", "launch gc");
  std::string config;
  bool dry_run = false, all = false;
  app.add_option("--config", config, "a job file whose provider is looked at, too");
  app.add_flag("--dry-run", dry_run, "only say what would go");
  app.add_flag("--all", all, "machines that other people's launches have made, too");
  std::vector<std::string> stopped;
  app.add_option("--stopped", stopped,
                 "the machines of this job, which were stopped as its cluster.afterJob asked, too")
      ->type_name("JOB");
  std::vector<std::string> words(context.words.rbegin(), context.words.rend());
  try {
    app.parse(words);
  } catch (const CLI::CallForHelp& help) {
    fmt::print(context.out, "{}", app.help());
    return kSucceeded;
  } catch (const CLI::ParseError& e) {
    fmt::print(context.err, "{}; see launch gc --help\n", e.what());
    return kWrongInput;
  }
  if (access(options.folder.c_str(), R_OK | X_OK) != 0 && errno != ENOENT) {
    fmt::print(context.err, "cannot read {}, where launches note their machines: {}\n",
               options.folder, std::strerror(errno));
    return kWrongInput;
  }
  for (const std::string& job : stopped) {
    const auto journal = MachineJournal::TakeOver(options.folder, job);
    if (journal.ok() && (*journal)->stopped_ms() != 0) continue;
    fmt::print(context.err, "no machines of {} were stopped by a launch of this user{}{}\n",
               Quoted(job), absl::IsDataLoss(journal.status()) ? ": " : "",
               absl::IsDataLoss(journal.status()) ? std::string(journal.status().message()) : "");
    return kWrongInput;
  }
  Collector collector(context.out, options, dry_run, all, stopped);
  if (!config.empty()) {
    JobDraft draft;
    ReadJobFile(config, &draft);
    const auto cluster = ResolveCluster(&draft);
    if (!cluster) {
      fmt::print(context.err, "{}", draft.problems.Text());
      return kWrongInput;
    }
    if (!MakesMachines(cluster->provider())) {
      fmt::print(context.err, "{}: provider {} makes no machines\n", config,
                 Cluster::Provider_Name(cluster->provider()));
      return kWrongInput;
    }
    collector.AddProvider(*cluster);
  }
  const std::vector<std::string> jobs = MachineJournal::Jobs(options.folder);
  for (const std::string& job : jobs) collector.CollectJournal(job);
  collector.CollectStrays();
  if (jobs.empty() && config.empty()) {
    fmt::print(context.out,
               "no launch of this user has machines; --config FILE looks at its provider\n");
  }
  return collector.exit_code();
}

}  // namespace muster::cluster
