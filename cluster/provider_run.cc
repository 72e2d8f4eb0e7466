#include "cluster/provider_run.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cluster/agree.h"
#include "cluster/ask_hosts.h"
#include "cluster/bill_record.h"
#include "cluster/command.h"
#include "cluster/disk_price.h"
#include "cluster/hosts_run.h"
#include "cluster/left_machines.h"
#include "cluster/machine_hosts.h"
#include "cluster/machine_key.h"
#include "cluster/node_set.h"
#include "cluster/planned_machines.h"
#include "cluster/providers.h"
#include "cluster/rented_job.h"
#include "cluster/shown_commands.h"
#include "cluster/signals.h"
#include "cluster/ssh.h"
#include "cluster/ssh_provider.h"
#include "cluster/stopped_machines.h"
#include "cluster/watchdog.h"
#include "master/job_directory.h"
#include "master/job_state.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr int kLeastMinutes = 5;
constexpr int64_t kTouchMs = 30'000;

class Runner {
 public:
  Runner(const ProviderRun& run, const LocalOptions& options)
      : run_(run), options_(options), tools_(MakeTools(options.environment)) {
    // Where nothing is given back, what interrupts just ends this process.
    if (MakesMachines(run.cluster.provider())) signals_.emplace();
    patience_.now_ms = UnixMillis;
    patience_.pause = [this](int64_t ms) {
      pollfd interrupt{signals_ ? signals_->fd() : -1, POLLIN, 0};
      poll(&interrupt, 1, static_cast<int>(ms));
      return !signals_ || !signals_->Take();
    };
  }

  // What ssh needs goes when there are no machines any more.
  ~Runner() {
    if (std::ranges::count(MachineJournal::Jobs(run_.folder), job_id_) == 0) {
      RemoveMachineKey(run_.folder, job_id_);
    }
  }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  absl::StatusOr<int> Run() {
    const LocalJob draft = run_.make_job(1);
    const bool makes = MakesMachines(run_.cluster.provider());
    if (run_.dry_run) return makes ? ShowCommands(draft) : 0;
    job_id_ = draft.job_id;
    if (!makes) {
      return OnFoundHosts(draft,
                          [this](const HostsRun& hosts) { return RunOnHosts(hosts, options_); });
    }
    RETURN_IF_ERROR(ClearEarlier(draft.job_id));
    RETURN_IF_ERROR(CheckDirectory(draft.job_dir));
    const MachineOrder order = Order(draft);
    // Before anything else bears the job's name: another launch of it may have just begun, too.
    ASSIGN_OR_RETURN(const std::unique_ptr<MachineJournal> journal, BeginJournal(order, draft));
    auto provider = Prepare(order, draft);
    if (!provider.ok()) {
      RETURN_IF_ERROR(journal->Close());
      return provider.status();
    }
    return RunOn(**provider, order, draft, *journal);
  }

  // Follows the job that was left, or ends it; gives the machines back once it has ended.
  absl::StatusOr<int> Attach(bool cancel) {
    const LocalJob draft = run_.make_job(1);
    job_id_ = draft.job_id;
    if (!MakesMachines(run_.cluster.provider())) {
      return OnFoundHosts(draft, [this, cancel](const HostsRun& hosts) {
        return AttachToHosts(hosts, options_, cancel);
      });
    }
    auto journal = MachineJournal::TakeOver(run_.folder, job_id_);
    if (absl::IsNotFound(journal.status())) return NoMachines(draft.job_dir);
    if (absl::IsFailedPrecondition(journal.status())) {
      return absl::FailedPreconditionError(
          fmt::format("another launch of this user runs {}: launch jobs logs {} -f follows it",
                      job_id_, job_id_));
    }
    RETURN_IF_ERROR(journal.status());
    const JournalHead& head = (*journal)->head();
    std::error_code error;
    if (!std::filesystem::equivalent(head.job_dir, draft.job_dir, error)) {
      return absl::FailedPreconditionError(
          fmt::format("the machines of {} are those of another job: of {}", job_id_, head.job_dir));
    }
    if ((*journal)->stopped_ms() != 0) return Stopped(**journal);
    MachineKey key;
    if (IsReachedBySsh(run_.cluster.provider())) {
      ASSIGN_OR_RETURN(key, FindMachineKey(run_.folder, job_id_));
    }
    ASSIGN_OR_RETURN(const std::unique_ptr<Provider> provider, MakeReaching(std::move(key)));
    ASSIGN_OR_RETURN(const std::vector<Machine> listed, provider->List(job_id_));
    ASSIGN_OR_RETURN(const std::vector<RentedSpan> spans, ReadBill(head.job_dir));
    const LeftMachines left = FindLeftMachines(listed, spans, draft.roles);
    const std::string region = left.by_host.front().place.region;
    RentedJob job(JobOn(*provider, draft, **journal, region));
    const absl::StatusOr<int> code = job.Attach(Order(draft), left, spans, cancel);
    // Whoever comes later may have more luck, and gc comes when the job's time is over.
    if (!code.ok() || job.left()) return code;
    if (Stays() && StopThem(*provider, **journal, region, job)) return code;
    RETURN_IF_ERROR(GiveBackMachines(*provider, **journal, patience_));
    TellGivenBack(left.running, job);
    return code;
  }

 private:
  void Say(const std::string& line) const { Tell(options_, line); }

  absl::Status NoMachines(const std::string& job_dir) const {
    const auto state = master::ReadJobState(master::JobDirectory(job_dir).state_json());
    if (state.ok() && master::IsFinal(state->state)) {
      return absl::NotFoundError(fmt::format(
          "no machines of {} are known here: it has ended ({}), and they were given back: launch "
          "jobs describe {} shows what it has left",
          job_id_, master::RunStateName(state->state), job_id_));
    }
    return absl::NotFoundError(
        fmt::format("no machines of {} are known here: they were given back, or another user or "
                    "machine has started it (its journal would be {}/{}.jsonl)",
                    job_id_, run_.folder, job_id_));
  }

  // With hosts that are there before the job and after it.
  absl::StatusOr<int> OnFoundHosts(const LocalJob& draft,
                                   const std::function<absl::StatusOr<int>(const HostsRun&)>& use) {
    ASSIGN_OR_RETURN(const std::unique_ptr<Provider> provider, MakeReaching(MachineKey()));
    RETURN_IF_ERROR(provider->Check(Order(draft)).status());
    ASSIGN_OR_RETURN(const std::vector<Machine> machines, provider->List(job_id_));
    HostsRun hosts = MakeHostsRun(run_, options_, draft, JobFolder(ssh_, job_id_), machines.size());
    RETURN_IF_ERROR(SetHosts(*provider, run_.cluster, machines, hosts));
    return use(hosts);
  }

  // One that reaches machines by ssh with `key`, where they are reached so.
  absl::StatusOr<std::unique_ptr<Provider>> MakeReaching(MachineKey key) {
    if (IsReachedBySsh(run_.cluster.provider())) {
      ASSIGN_OR_RETURN(ssh_program_, FindSsh(options_.environment));
    }
    ssh_ = std::move(key.ssh);
    ssh_.set_directory(MachineFolder(run_.cluster));
    return MakeProvider(
        {.cluster = run_.cluster,
         .tools = tools_.run,
         .patience = patience_,
         .public_key = key.public_key,
         .shortcuts = {.begin = tools_.begin, .folder = FactsOf(run_.facts, options_.environment)},
         .reach =
             [this](const SshHost& host) {
               return SshRunHost(ssh_, host, ssh_program_, options_.environment, run_.build_id);
             },
         .environment = options_.environment,
         .build_id = run_.build_id,
         .program_dir = options_.program_dir});
  }

  // Every command of a run that nothing hinders.
  absl::StatusOr<int> ShowCommands(const LocalJob& draft) const {
    const auto provider =
        MakeProvider({.cluster = run_.cluster,
                      .tools = ShownCommands([this](const std::string& line) { Say(line); }),
                      .patience = patience_,
                      .public_key = "$PUBLIC_KEY",
                      .program_dir = options_.program_dir});
    Say("\n# may it be done, and where?");
    MachineOrder order = Order(draft);
    RETURN_IF_ERROR(provider->Check(order).status());
    Say("\n# machines");
    order.place = provider->Places().front();
    order.attempt = 1;
    RETURN_IF_ERROR(provider->Create(order, [](const std::string&) { return absl::OkStatus(); }));
    (void)provider->List(draft.job_id).ok();
    Say("\n# at the end, or when anything fails");
    if (Stays()) {
      RETURN_IF_ERROR(provider->Stop(draft.job_id));
      Say(fmt::format("\n# launch gc --stopped {}", draft.job_id));
    }
    RETURN_IF_ERROR(provider->Destroy(draft.job_id));
    return 0;
  }

  // What RunOnHosts would refuse, before anything costs.
  static absl::Status CheckDirectory(const std::string& job_dir) {
    const master::JobDirectory dir(job_dir);
    RETURN_IF_ERROR(master::CreateJobDirectory(dir));
    return master::JobLock::Take(dir, UnixMillis()).status();
  }

  absl::StatusOr<std::unique_ptr<MachineJournal>> BeginJournal(const MachineOrder& order,
                                                               const LocalJob& draft) const {
    const JournalHead head{.job_id = draft.job_id,
                           .run = order.run,
                           .job_dir = std::filesystem::absolute(draft.job_dir).string(),
                           .owner = run_.owner,
                           .cluster = run_.cluster};
    auto journal = MachineJournal::Begin(run_.folder, head, patience_.now_ms());
    return absl::IsAlreadyExists(journal.status()) ? IsRun(draft.job_id) : std::move(journal);
  }

  static absl::Status IsRun(const std::string& job_id) {
    return absl::FailedPreconditionError(
        fmt::format("another launch runs {}, or is about to: give this one another name with "
                    "--job-id, or wait until that has ended (launch jobs describe {})",
                    job_id, job_id));
  }

  // Whether machines may be asked for, and the user agrees.
  absl::StatusOr<std::unique_ptr<Provider>> Prepare(const MachineOrder& order,
                                                    const LocalJob& draft) {
    MachineKey key;
    if (IsReachedBySsh(run_.cluster.provider())) {
      ASSIGN_OR_RETURN(key, MakeMachineKey(run_.folder, draft.job_id, tools_.run));
    }
    ASSIGN_OR_RETURN(std::unique_ptr<Provider> provider, MakeReaching(std::move(key)));
    ASSIGN_OR_RETURN(const std::vector<std::string> found, provider->Check(order));
    for (const std::string& line : found) Say(line);
    RETURN_IF_ERROR(CheckBudget(draft));
    if (BillsTheUser(run_.cluster.provider())) RETURN_IF_ERROR(AskUser(draft, order));
    return provider;
  }

  // What a launcher of this job that did not come to its end has left.
  absl::Status ClearEarlier(const std::string& job_id) {
    auto journal = MachineJournal::TakeOver(run_.folder, job_id);
    if (absl::IsNotFound(journal.status())) return absl::OkStatus();
    if (absl::IsFailedPrecondition(journal.status())) return IsRun(job_id);
    RETURN_IF_ERROR(journal.status());
    if ((*journal)->stopped_ms() != 0) return Stopped(**journal);
    if ((*journal)->asked_ms() == 0) return (*journal)->Close();
    const Cluster cluster = (*journal)->head().cluster;
    const auto provider =
        MakeProvider({.cluster = cluster, .tools = tools_.run, .patience = patience_});
    ASSIGN_OR_RETURN(const bool left, IsLeft(*provider, **journal, patience_.now_ms()));
    if (left) return absl::FailedPreconditionError(LeftText(**journal));
    Say(fmt::format("an earlier launch of {} has left machines, perhaps: they go first", job_id));
    RETURN_IF_ERROR(GiveBackMachines(*provider, **journal, patience_));
    // The directory may be gone.
    NoteGivenBack((*journal)->head().job_dir, patience_.now_ms()).IgnoreError();
    return absl::OkStatus();
  }

  MachineOrder Order(const LocalJob& job) const {
    return OrderMachines(run_.plan, run_.cluster, job.job_id, run_.owner, job.max_running_ms);
  }

  static int64_t Machines(const MachineOrder& order) {
    int64_t machines = 0;
    for (const MachineGroup& group : order.groups) machines += group.count;
    return machines;
  }

  // What is used up before training begins is better not begun.
  absl::Status CheckBudget(const LocalJob& job) const {
    const double budget = run_.cluster.budget().max_cost();
    if (budget <= 0) return absl::OkStatus();
    if (job.dollars_per_hour <= 0) {
      return absl::FailedPreconditionError(
          "cluster.budget.maxCost cannot be kept: what the machines cost is not known here");
    }
    const double minutes = budget / job.dollars_per_hour * 60;
    if (minutes >= kLeastMinutes) return absl::OkStatus();
    return absl::FailedPreconditionError(fmt::format(
        "cluster.budget.maxCost buys {:.1f} minutes of these machines (${:.2f} an hour), of which "
        "starting and giving back take {}: write more, or smaller machines",
        minutes, job.dollars_per_hour, kLeastMinutes));
  }

  absl::Status AskUser(const LocalJob& job, const MachineOrder& order) const {
    const double most =
        MostUsd(job.dollars_per_hour, static_cast<double>(job.max_running_ms) / 1000,
                run_.cluster.budget().max_cost());
    const std::string what =
        job.dollars_per_hour > 0
            ? fmt::format("{} at ${:.2f} an hour, ${:.2f} at most", CountMachines(Machines(order)),
                          job.dollars_per_hour, most)
            : fmt::format("{}; what they cost is not known here", CountMachines(Machines(order)));
    return Agree(what, run_.yes, *signals_, [this](const std::string& line) { Say(line); });
  }

  absl::StatusOr<int> RunOn(Provider& provider, const MachineOrder& order, const LocalJob& draft,
                            MachineJournal& journal) {
    const int64_t began_ms = MonotonicMillis();
    NodeSet set(provider, journal, patience_, [this](const std::string& line) { Say(line); });
    ASSIGN_OR_RETURN(const std::vector<Machine> machines,
                     set.Create({.order = order, .max_wait_ms = run_.max_wait_s * 1000}));
    const std::string region = machines.empty() ? "" : machines.front().place.region;
    RentedJob job(JobOn(provider, draft, journal, region));
    const absl::StatusOr<int> code = job.Run(order, machines, began_ms);
    if (job.left()) {
      set.Leave();
      return code;
    }
    if (code.ok() && job.reached() && Stays() && StopThem(provider, journal, region, job)) {
      set.Leave();
      return code;
    }
    RETURN_IF_ERROR(set.GiveBack());
    TellGivenBack(machines.size(), job);
    return code;
  }

  RentedJob::Options JobOn(Provider& provider, const LocalJob& draft, MachineJournal& journal,
                           const std::string& region) const {
    return {.run = run_,
            .local = options_,
            .draft = draft,
            .provider = provider,
            .journal = journal,
            .patience = patience_,
            .job_folder = JobFolder(ssh_, draft.job_id),
            .region = region,
            .interrupts = signals_->fd()};
  }

  bool Stays() const { return run_.cluster.after_job() == Cluster::STOP; }

  static absl::Status Stopped(const MachineJournal& journal) {
    return absl::FailedPreconditionError(
        fmt::format("{} has ended: {}", journal.head().job_id, StoppedText(journal)));
  }

  // What the job file asks for after the job; false, and said why, where the machines have to go.
  bool StopThem(Provider& provider, MachineJournal& journal, const std::string& region,
                const RentedJob& job) const {
    const absl::Status stopped = TryToStop(provider, journal, region);
    if (!stopped.ok()) {
      Say(fmt::format("warning: {}: they are given back", std::string(stopped.message())));
      return false;
    }
    job.NoteGivenBack();
    Say(fmt::format("{}: {}{}", job_id_, StoppedText(journal), job.CostText()));
    return true;
  }

  absl::Status TryToStop(Provider& provider, MachineJournal& journal,
                         const std::string& region) const {
    ASSIGN_OR_RETURN(const std::vector<Machine> machines, provider.List(job_id_));
    std::vector<RunHost> hosts;
    for (const Machine& machine : machines) {
      if (machine.state != MachineState::kRunning || machine.spot) continue;
      ASSIGN_OR_RETURN(RunHost host, provider.Reach(machine));
      hosts.push_back(std::move(host));
    }
    if (hosts.empty()) return absl::UnavailableError("no machine is left to be stopped");
    ASSIGN_OR_RETURN(
        const std::vector<ToolResult> told,
        AskHosts(hosts, fmt::format("touch ~/{}", kMachineStaysFile), kTouchMs, RealPatience()));
    for (size_t i = 0; i < told.size(); ++i) {
      if (told[i].code == 0) continue;
      return absl::UnavailableError(
          fmt::format("host {}: {}", hosts[i].link.name, hosts[i].link.explain(told[i].err)));
    }
    return StopMachines(provider, journal,
                        DisksText(run_.cluster, static_cast<int64_t>(hosts.size()), region),
                        patience_);
  }

  void TellGivenBack(size_t machines, const RentedJob& job) const {
    job.NoteGivenBack();
    Say(fmt::format("{} given back{}", CountMachines(static_cast<int64_t>(machines)),
                    job.CostText()));
  }

  const ProviderRun& run_;
  const LocalOptions& options_;
  const Tools tools_;
  std::optional<Signals> signals_;
  Patience patience_;
  Ssh ssh_;
  std::string ssh_program_;
  std::string job_id_;
};

}  // namespace

int RunOnProvider(const ProviderRun& run, const LocalOptions& options) {
  Runner runner(run, options);
  return ExitCodeOf(runner.Run(), options);
}

int AttachOnProvider(const ProviderRun& run, const LocalOptions& options, bool cancel) {
  Runner runner(run, options);
  return ExitCodeOf(runner.Attach(cancel), options);
}

}  // namespace muster::cluster
