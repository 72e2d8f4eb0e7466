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
#include "cluster/await_hosts.h"
#include "cluster/bill_record.h"
#include "cluster/command.h"
#include "cluster/disk_price.h"
#include "cluster/gpu_driver.h"
#include "cluster/hosts_run.h"
#include "cluster/job_rent.h"
#include "cluster/left_machines.h"
#include "cluster/machine_key.h"
#include "cluster/machine_steward.h"
#include "cluster/node_set.h"
#include "cluster/providers.h"
#include "cluster/random_hex.h"
#include "cluster/run_keys.h"
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

// The provider ends machines so long after the job's own limit.
constexpr int64_t kLifetimeSlackSeconds = 1'800;
constexpr int64_t kReachMs = 300'000;
constexpr int kLeastMinutes = 5;
constexpr int64_t kTouchMs = 30'000;
constexpr size_t kRunBytes = 8;

std::string Count(int64_t machines) {
  return fmt::format("{} machine{}", machines, machines == 1 ? "" : "s");
}

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
    region_ = left.by_host.front().place.region;
    JobRent rent(RentOf(head.job_dir));
    std::vector<size_t> bills = rent.Resume(left, spans);
    absl::StatusOr<int> code = 1;
    if (left.has_master) {
      code = AttachTo(*provider, left, std::move(bills), draft, rent, **journal, cancel);
    } else if (const auto folder = provider->ReachFolder(job_id_)) {
      HostsRun hosts = MakeHostsRun(draft, /*machines=*/1);
      hosts.hosts = {*folder};
      code = FetchFromMaster(hosts, options_);
    } else {
      Say(fmt::format("the machine that had the results of {} is given back, and {} there with it",
                      job_id_, JobFolder(ssh_, job_id_)));
    }
    // Whoever comes later may have more luck, and gc comes when the job's time is over.
    if (!code.ok() || left_) return code;
    if (Stays() && StopThem(*provider, **journal, rent)) return code;
    RETURN_IF_ERROR(GiveBackMachines(*provider, **journal, patience_));
    TellGivenBack(left.running, rent);
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
    ASSIGN_OR_RETURN(const HostsRun hosts, MakeHosts(*provider, machines, draft));
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
    MachineOrder order;
    order.job_id = job.job_id;
    order.run = "mu" + RandomHex(kRunBytes);
    order.owner = run_.owner;
    order.lifetime_s = job.max_running_ms / 1000 + kLifetimeSlackSeconds;
    for (const PlanRole& role : run_.plan.roles) {
      if (role.role == Role::kEvaluator) continue;
      order.groups.push_back(
          {.role = role.role,
           .count = role.count,
           .type = role.rented_type.empty() ? role.machine_type : role.rented_type,
           .image = role.image,
           .vcpus = role.vcpus,
           .memory_gb = role.memory_gb,
           .accelerator = role.accelerator,
           .gpus = role.accelerator_count,
           .spot = role.spot,
           .max_price = role.spot ? run_.cluster.spot().max_price() : 0});
    }
    return order;
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
            ? fmt::format("{} at ${:.2f} an hour, ${:.2f} at most", Count(Machines(order)),
                          job.dollars_per_hour, most)
            : fmt::format("{}; what they cost is not known here", Count(Machines(order)));
    return Agree(what, run_.yes, *signals_, [this](const std::string& line) { Say(line); });
  }

  absl::StatusOr<int> RunOn(Provider& provider, const MachineOrder& order, const LocalJob& draft,
                            MachineJournal& journal) {
    const int64_t began = MonotonicMillis();
    NodeSet set(provider, journal, patience_, [this](const std::string& line) { Say(line); });
    ASSIGN_OR_RETURN(const std::vector<Machine> machines,
                     set.Create({.order = order, .max_wait_ms = run_.max_wait_s * 1000}));
    if (!machines.empty()) region_ = machines.front().place.region;
    JobRent rent(RentOf(journal.head().job_dir));
    std::vector<size_t> bills = rent.Begin(machines, began);
    absl::StatusOr<int> code = kInterrupted;
    if (!machines.empty()) {
      MachineSteward steward(Stewarding(provider, journal, order, rent, draft.max_running_ms),
                             machines, std::move(bills));
      code = RunUntilDone(provider, draft, rent, journal, steward, /*first=*/nullptr);
      steward.Stop();
    }
    if (left_) {
      set.Leave();
      return code;
    }
    if (code.ok() && ran_ && Stays() && StopThem(provider, journal, rent)) {
      set.Leave();
      return code;
    }
    RETURN_IF_ERROR(set.GiveBack());
    TellGivenBack(machines.size(), rent);
    return code;
  }

  bool Stays() const { return run_.cluster.after_job() == Cluster::STOP; }

  static absl::Status Stopped(const MachineJournal& journal) {
    return absl::FailedPreconditionError(
        fmt::format("{} has ended: {}", journal.head().job_id, StoppedText(journal)));
  }

  // What the job file asks for after the job; false, and said why, where the machines have to go.
  bool StopThem(Provider& provider, MachineJournal& journal, const JobRent& rent) const {
    const absl::Status stopped = TryToStop(provider, journal);
    if (!stopped.ok()) {
      Say(fmt::format("warning: {}: they are given back", std::string(stopped.message())));
      return false;
    }
    rent.NoteGivenBack();
    Say(fmt::format("{}: {}{}", job_id_, StoppedText(journal), CostText(rent)));
    return true;
  }

  absl::Status TryToStop(Provider& provider, MachineJournal& journal) const {
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
                        DisksText(run_.cluster, static_cast<int64_t>(hosts.size()), region_),
                        patience_);
  }

  // Follows the job on the machines that it has, as its first launcher did, or ends it.
  absl::StatusOr<int> AttachTo(Provider& provider, const LeftMachines& left,
                               std::vector<size_t> bills, const LocalJob& draft, JobRent& rent,
                               MachineJournal& journal, bool cancel) {
    ASSIGN_OR_RETURN(HostsRun hosts, MakeRentedHosts(provider, left.by_host, draft, rent, journal));
    if (!left.others_are_workers) {
      hosts.hosts.resize(1);
      return FetchFromMaster(hosts, options_);
    }
    for (const Machine& machine : left.superseded) {
      Say(fmt::format("{}-{} has another machine: {} in {} is ended", RoleName(machine.role),
                      machine.index, machine.id, machine.place.zone));
      const absl::Status ended = provider.End(machine);
      if (ended.ok()) rent.NoteLost(machine);
      Warn(ended);
    }
    const auto keys = FindRunKeys(run_.folder, job_id_);
    if (!keys.ok()) {
      Say(fmt::format("warning: machines that are lost will not be replaced: {}",
                      std::string(keys.status().message())));
      return AttachToHosts(hosts, options_, cancel);
    }
    hosts.keys = *keys;
    const int64_t age_ms =
        left.began_ms == 0 ? 0 : std::max<int64_t>(0, patience_.now_ms() - left.began_ms);
    const auto rest = [age_ms](int64_t ms) { return std::max<int64_t>(1, ms - age_ms); };
    MachineOrder order = Order(draft);
    order.attempt = left.last_attempt;
    order.lifetime_s = rest(order.lifetime_s * 1000) / 1000 + 1;
    const int64_t running_ms = draft.max_running_ms > 0 ? rest(draft.max_running_ms) : 0;
    MachineSteward::Options options =
        Stewarding(provider, journal, std::move(order), rent, running_ms);
    options.checked = false;
    MachineSteward steward(std::move(options), left.by_host, std::move(bills));
    const auto attach = [&] { return AttachToHosts(hosts, options_, cancel); };
    // A job that is to end needs no other machine.
    if (cancel) return attach();
    hosts.steward = &steward;
    LocalJob job = draft;
    job.max_running_ms = running_ms;
    auto code = RunUntilDone(provider, job, rent, journal, steward, attach);
    steward.Stop();
    return code;
  }

  JobRent::Options RentOf(const std::string& job_dir) const {
    return {.job_dir = job_dir,
            .billed = BillsTheUser(run_.cluster.provider()),
            .max_cost = run_.cluster.budget().max_cost(),
            .price = [this](Role role) { return PriceOf(role); },
            .say = [this](const std::string& line) { Say(line); }};
  }

  // Borrows all of them.
  MachineSteward::Options Stewarding(Provider& provider, MachineJournal& journal,
                                     MachineOrder order, JobRent& rent,
                                     int64_t max_running_ms) const {
    return {.provider = provider,
            .journal = journal,
            .patience = patience_,
            .order = std::move(order),
            .max_running_ms = max_running_ms,
            .keep = {signals_->fd()},
            .rent = rent.rent(),
            .price = [this](Role role) { return PriceOf(role); },
            .reach = [&](const Machine& machine) { return Reach(provider, machine); },
            .prepare = [&](const Machine& machine,
                           const cluster::Say& say) { return PrepareOne(provider, machine, say); },
            .on_lost = [&rent](const Machine& lost) { rent.NoteLost(lost); },
            .on_replaced = [&rent](const Machine& lost,
                                   const Machine& by) { rent.NoteReplaced(lost, by); }};
  }

  void TellGivenBack(size_t machines, const JobRent& rent) const {
    rent.NoteGivenBack();
    Say(fmt::format("{} given back{}", Count(static_cast<int64_t>(machines)), CostText(rent)));
  }

  static std::string CostText(const JobRent& rent) {
    const double cost = rent.rent()->bill.Cost(MonotonicMillis());
    return cost > 0 ? fmt::format("; about ${:.2f}", cost) : "";
  }

  void Warn(const absl::Status& status) const {
    if (!status.ok()) Say("warning: " + std::string(status.message()));
  }

  absl::StatusOr<RunHost> Reach(Provider& provider, const Machine& machine) const {
    ASSIGN_OR_RETURN(RunHost host, provider.Reach(machine));
    if (machine.spot) host.notices_of = Cluster::Provider_Name(run_.cluster.provider());
    return host;
  }

  // By the plan, in the region where the machines are, and by the hour; 0: not known.
  double PriceOf(Role role) const {
    if (!BillsTheUser(run_.cluster.provider())) return 0;
    for (const PlanRole& planned : run_.plan.roles) {
      if (planned.role != role) continue;
      const auto here = planned.usd_by_region.find(region_);
      const bool known = !planned.spot && here != planned.usd_by_region.end();
      return known ? here->second : planned.usd_per_hour.value_or(0);
    }
    return 0;
  }

  // Runs the job, and again from its newest checkpoint where it ended for want of machines that are
  // found or replaced. `first`: instead of the first run; may be null.
  absl::StatusOr<int> RunUntilDone(Provider& provider, const LocalJob& draft, const JobRent& rent,
                                   MachineJournal& journal, MachineSteward& steward,
                                   std::function<absl::StatusOr<int>()> first) {
    const int64_t began_ms = MonotonicMillis();
    const auto say = [this](const std::string& line) { Say(line); };
    LocalJob job = draft;
    for (int64_t before = -1;;) {
      const auto run = [&] {
        return RunOnMachines(provider, steward.machines(), job, rent, journal, steward);
      };
      const auto begin = std::exchange(first, nullptr);
      const absl::StatusOr<int> code = begin ? begin() : run();
      if (left_ || !code.ok() || *code != kFailed) return code;
      const auto checkpoint =
          master::NewestCheckpoint(master::JobDirectory(draft.job_dir), /*warnings=*/nullptr);
      const int64_t step = checkpoint.ok() ? checkpoint->step : 0;
      // Without progress it might go on like that for ever.
      if (step <= before || !steward.Recover(say)) return code;
      before = step;
      Say(step == 0 ? std::string("the job begins anew")
                    : fmt::format("the job goes on from its checkpoint of step {}", step));
      if (draft.max_running_ms > 0) {
        const int64_t rest_ms = draft.max_running_ms - (MonotonicMillis() - began_ms);
        job.max_running_ms = std::max<int64_t>(1, rest_ms);
      }
    }
  }

  absl::StatusOr<int> RunOnMachines(Provider& provider, const std::vector<Machine>& machines,
                                    const LocalJob& draft, const JobRent& rent,
                                    MachineJournal& journal, HostSteward& steward) {
    ASSIGN_OR_RETURN(HostsRun hosts, MakeRentedHosts(provider, machines, draft, rent, journal));
    hosts.steward = &steward;
    const std::string& zone = machines.front().place.zone;
    Say(fmt::format("{} run{}; waiting for them to be reached",
                    Count(static_cast<int64_t>(machines.size())),
                    zone.empty() ? "" : " in " + zone));
    const absl::Status reached = AwaitHosts(hosts.hosts, kReachMs, patience_);
    if (absl::IsCancelled(reached)) return kInterrupted;
    RETURN_IF_ERROR(reached);
    const absl::Status drivers = CheckDriversOf(machines, hosts);
    if (absl::IsCancelled(drivers)) return kInterrupted;
    RETURN_IF_ERROR(drivers);
    ran_ = true;
    return RunOnHosts(hosts, options_);
  }

  // A machine in a lost one's place, in a process of its own.
  absl::Status PrepareOne(Provider& provider, const Machine& machine,
                          const cluster::Say& say) const {
    if (run_.oldest_driver == 0 || !ComputesOnGpus(machine.role)) return absl::OkStatus();
    ASSIGN_OR_RETURN(const RunHost host, Reach(provider, machine));
    RETURN_IF_ERROR(AwaitHosts({host}, kReachMs, patience_));
    return CheckDrivers({host}, run_.oldest_driver, run_.cluster.install_driver(), patience_, say);
  }

  bool ComputesOnGpus(Role role) const {
    const auto planned = std::ranges::find(run_.plan.roles, role, &PlanRole::role);
    const bool trains = role == Role::kMaster || role == Role::kWorker;
    return trains && planned != run_.plan.roles.end() && planned->accelerator_count > 0;
  }

  // Of those whose trainers compute on GPUs.
  absl::Status CheckDriversOf(const std::vector<Machine>& machines, const HostsRun& run) const {
    std::vector<RunHost> hosts;
    for (size_t i = 0; i < machines.size(); ++i) {
      if (ComputesOnGpus(machines[i].role)) hosts.push_back(run.hosts[i]);
    }
    if (run_.oldest_driver == 0 || hosts.empty()) return absl::OkStatus();
    return CheckDrivers(hosts, run_.oldest_driver, run_.cluster.install_driver(), patience_,
                        [this](const std::string& line) { Say(line); });
  }

  // The job's hosts, by the machines; there is no way to one without an id.
  absl::StatusOr<HostsRun> MakeHosts(Provider& provider, const std::vector<Machine>& machines,
                                     const LocalJob& draft) const {
    HostsRun hosts = MakeHostsRun(draft, machines.size());
    hosts.kept = provider.HasKeepers();
    for (const Machine& machine : machines) {
      RunHost host;
      host.link.name = fmt::format("of {} {}", RoleName(machine.role), machine.index);
      if (machine.state == MachineState::kRunning) {
        ASSIGN_OR_RETURN(host, Reach(provider, machine));
      }
      hosts.hosts.push_back(std::move(host));
    }
    return hosts;
  }

  // Of machines that were made, one for each of the plan: masters, workers, servers.
  HostsRun MakeHostsRun(const LocalJob& draft, size_t machines) const {
    HostsRun hosts;
    hosts.host_of_role = PlaceRoles(draft.roles, machines);
    hosts.job_folder = JobFolder(ssh_, draft.job_id);
    hosts.build_id = run_.build_id;
    hosts.make_job = run_.make_job;
    hosts.bundle = BundleFor(options_);
    hosts.can_detach = absl::OkStatus();
    return hosts;
  }

  // The same of machines that were made.
  absl::StatusOr<HostsRun> MakeRentedHosts(Provider& provider, const std::vector<Machine>& machines,
                                           const LocalJob& draft, const JobRent& rent,
                                           MachineJournal& journal) {
    ASSIGN_OR_RETURN(HostsRun hosts, MakeHosts(provider, machines, draft));
    hosts.make_job = [this, bill = rent.rent(), running_ms = draft.max_running_ms](int threads) {
      LocalJob job = run_.make_job(threads);
      job.rent = bill;
      job.max_running_ms = running_ms;  // less than it was where the job is run again
      return job;
    };
    hosts.rented = true;
    hosts.before_leaving = [this, &journal](int64_t until_in_ms, const RunKeys& keys) {
      if (!keys.token.empty()) RETURN_IF_ERROR(KeepRunKeys(run_.folder, job_id_, keys));
      return journal.Leaving(patience_.now_ms() + until_in_ms);
    };
    hosts.on_left = [this] { left_ = true; };
    hosts.interrupted = [this] { return !patience_.pause(0); };
    return hosts;
  }

  const ProviderRun& run_;
  const LocalOptions& options_;
  const Tools tools_;
  std::optional<Signals> signals_;
  Patience patience_;
  Ssh ssh_;
  std::string ssh_program_;
  std::string job_id_;
  std::string region_;  // of the machines
  bool ran_ = false;    // the machines were reached
  bool left_ = false;   // the job goes on without this launcher
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
