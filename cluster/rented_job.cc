#include "cluster/rented_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cluster/await_hosts.h"
#include "cluster/command.h"
#include "cluster/gpu_driver.h"
#include "cluster/machine_hosts.h"
#include "cluster/planned_machines.h"
#include "cluster/providers.h"
#include "cluster/run_keys.h"
#include "master/job_directory.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr int64_t kReachMs = 300'000;

}  // namespace

RentedJob::RentedJob(Options options) : options_(std::move(options)), rent_(RentOptions()) {}

JobRent::Options RentedJob::RentOptions() const {
  return {.job_dir = options_.journal.head().job_dir,
          .billed = BillsTheUser(cluster().provider()),
          .max_cost = cluster().budget().max_cost(),
          .price =
              [this](Role role) {
                return PlannedPrice(options_.run.plan, cluster(), role, options_.region);
              },
          .say = [this](const std::string& line) { Say(line); }};
}

absl::StatusOr<int> RentedJob::Run(const MachineOrder& order, const std::vector<Machine>& machines,
                                   int64_t began_ms) {
  std::vector<size_t> bills = rent_.Begin(machines, began_ms);
  if (machines.empty()) return kInterrupted;
  const int64_t max_running_ms = options_.draft.max_running_ms;
  MachineSteward steward(StewardOptions(order, max_running_ms), machines, std::move(bills));
  auto code = RunUntilDone(max_running_ms, steward, /*first=*/nullptr);
  steward.Stop();
  return code;
}

absl::StatusOr<int> RentedJob::Attach(MachineOrder order, const LeftMachines& left,
                                      const std::vector<RentedSpan>& spans, bool cancel) {
  std::vector<size_t> bills = rent_.Resume(left, spans);
  if (left.has_master) return Follow(std::move(order), left, std::move(bills), cancel);
  const std::string& job_id = options_.draft.job_id;
  if (const auto folder = options_.provider.ReachFolder(job_id)) {
    HostsRun hosts = MakeHostsRun(options_.run, options_.local, options_.draft, options_.job_folder,
                                  /*machines=*/1);
    hosts.hosts = {*folder};
    return FetchFromMaster(hosts, options_.local);
  }
  Say(fmt::format("the machine that had the results of {} is given back, and {} there with it",
                  job_id, options_.job_folder));
  return 1;
}

absl::StatusOr<int> RentedJob::Follow(MachineOrder order, const LeftMachines& left,
                                      std::vector<size_t> bills, bool cancel) {
  const LocalJob& draft = options_.draft;
  ASSIGN_OR_RETURN(HostsRun hosts, MakeHosts(left.by_host, draft.max_running_ms));
  if (!left.others_are_workers) {
    hosts.hosts.resize(1);
    return FetchFromMaster(hosts, options_.local);
  }
  EndSuperseded(left.superseded);
  const auto attach = [&] { return AttachToHosts(hosts, options_.local, cancel); };
  const auto keys = FindRunKeys(options_.run.folder, draft.job_id);
  if (!keys.ok()) {
    Say(fmt::format("warning: machines that are lost will not be replaced: {}",
                    std::string(keys.status().message())));
    return attach();
  }
  hosts.keys = *keys;
  // A job that is to end needs no other machine.
  if (cancel) return attach();
  const int64_t age_ms =
      left.began_ms == 0 ? 0 : std::max<int64_t>(0, options_.patience.now_ms() - left.began_ms);
  const auto rest = [age_ms](int64_t ms) { return std::max<int64_t>(1, ms - age_ms); };
  order.attempt = left.last_attempt;
  order.lifetime_s = rest(order.lifetime_s * 1000) / 1000 + 1;
  const int64_t running_ms = draft.max_running_ms > 0 ? rest(draft.max_running_ms) : 0;
  MachineSteward::Options stewardship = StewardOptions(std::move(order), running_ms);
  stewardship.checked = false;
  MachineSteward steward(std::move(stewardship), left.by_host, std::move(bills));
  hosts.steward = &steward;
  auto code = RunUntilDone(running_ms, steward, attach);
  steward.Stop();
  return code;
}

void RentedJob::EndSuperseded(const std::vector<Machine>& superseded) const {
  for (const Machine& machine : superseded) {
    Say(fmt::format("{}-{} has another machine: {} in {} is ended", RoleName(machine.role),
                    machine.index, machine.id, machine.place.zone));
    const absl::Status ended = options_.provider.End(machine);
    if (ended.ok()) {
      rent_.NoteLost(machine);
    } else {
      Say("warning: " + std::string(ended.message()));
    }
  }
}

MachineSteward::Options RentedJob::StewardOptions(MachineOrder order, int64_t max_running_ms) {
  return {.provider = options_.provider,
          .journal = options_.journal,
          .patience = options_.patience,
          .order = std::move(order),
          .max_running_ms = max_running_ms,
          .keep = {options_.interrupts},
          .rent = rent_.rent(),
          .price = RentOptions().price,
          .reach =
              [this](const Machine& machine) {
                return ReachMachine(options_.provider, cluster(), machine);
              },
          .prepare = [this](const Machine& machine,
                            const cluster::Say& say) { return Prepare(machine, say); },
          .on_lost = [this](const Machine& lost) { rent_.NoteLost(lost); },
          .on_replaced = [this](const Machine& lost,
                                const Machine& by) { rent_.NoteReplaced(lost, by); }};
}

std::string RentedJob::CostText() const {
  const double cost = rent_.rent()->bill.Cost(MonotonicMillis());
  return cost > 0 ? fmt::format("; about ${:.2f}", cost) : "";
}

absl::StatusOr<int> RentedJob::RunUntilDone(int64_t max_running_ms, MachineSteward& steward,
                                            std::function<absl::StatusOr<int>()> first) {
  const int64_t began_ms = MonotonicMillis();
  const auto say = [this](const std::string& line) { Say(line); };
  int64_t running_ms = max_running_ms;
  for (int64_t before = -1;;) {
    const auto begin = std::exchange(first, nullptr);
    const absl::StatusOr<int> code = begin ? begin() : RunOnce(running_ms, steward);
    if (left_ || !code.ok() || *code != kFailed) return code;
    const auto checkpoint = master::NewestCheckpoint(master::JobDirectory(options_.draft.job_dir),
                                                     /*warnings=*/nullptr);
    const int64_t step = checkpoint.ok() ? checkpoint->step : 0;
    // Without progress it might go on like that for ever.
    if (step <= before || !steward.Recover(say)) return code;
    before = step;
    Say(step == 0 ? std::string("the job begins anew")
                  : fmt::format("the job goes on from its checkpoint of step {}", step));
    if (max_running_ms > 0) {
      running_ms = std::max<int64_t>(1, max_running_ms - (MonotonicMillis() - began_ms));
    }
  }
}

absl::StatusOr<int> RentedJob::RunOnce(int64_t max_running_ms, MachineSteward& steward) {
  const std::vector<Machine>& machines = steward.machines();
  ASSIGN_OR_RETURN(HostsRun hosts, MakeHosts(machines, max_running_ms));
  hosts.steward = &steward;
  const std::string& zone = machines.front().place.zone;
  Say(fmt::format("{} run{}; waiting for them to be reached",
                  CountMachines(static_cast<int64_t>(machines.size())),
                  zone.empty() ? "" : " in " + zone));
  const absl::Status reached = AwaitHosts(hosts.hosts, kReachMs, options_.patience);
  if (absl::IsCancelled(reached)) return kInterrupted;
  RETURN_IF_ERROR(reached);
  const absl::Status drivers = CheckDriversOf(machines, hosts);
  if (absl::IsCancelled(drivers)) return kInterrupted;
  RETURN_IF_ERROR(drivers);
  reached_ = true;
  return RunOnHosts(hosts, options_.local);
}

absl::Status RentedJob::Prepare(const Machine& machine, const cluster::Say& say) const {
  const ProviderRun& run = options_.run;
  if (run.oldest_driver == 0 || !ComputesOnGpus(run.plan, machine.role)) return absl::OkStatus();
  ASSIGN_OR_RETURN(const RunHost host, ReachMachine(options_.provider, cluster(), machine));
  RETURN_IF_ERROR(AwaitHosts({host}, kReachMs, options_.patience));
  return CheckDrivers({host}, run.oldest_driver, cluster().install_driver(), options_.patience,
                      say);
}

absl::Status RentedJob::CheckDriversOf(const std::vector<Machine>& machines,
                                       const HostsRun& run) const {
  std::vector<RunHost> hosts;
  for (size_t i = 0; i < machines.size(); ++i) {
    if (ComputesOnGpus(options_.run.plan, machines[i].role)) hosts.push_back(run.hosts[i]);
  }
  if (options_.run.oldest_driver == 0 || hosts.empty()) return absl::OkStatus();
  return CheckDrivers(hosts, options_.run.oldest_driver, cluster().install_driver(),
                      options_.patience, [this](const std::string& line) { Say(line); });
}

absl::StatusOr<HostsRun> RentedJob::MakeHosts(const std::vector<Machine>& machines,
                                              int64_t max_running_ms) {
  const ProviderRun& run = options_.run;
  HostsRun hosts =
      MakeHostsRun(run, options_.local, options_.draft, options_.job_folder, machines.size());
  RETURN_IF_ERROR(SetHosts(options_.provider, cluster(), machines, hosts));
  hosts.make_job = [&run, bill = rent_.rent(), max_running_ms](int threads) {
    LocalJob job = run.make_job(threads);
    job.rent = bill;
    job.max_running_ms = max_running_ms;  // less than it was where the job is run again
    return job;
  };
  hosts.rented = true;
  hosts.before_leaving = [this](int64_t until_in_ms, const RunKeys& keys) {
    if (!keys.token.empty()) {
      RETURN_IF_ERROR(KeepRunKeys(options_.run.folder, options_.draft.job_id, keys));
    }
    return options_.journal.Leaving(options_.patience.now_ms() + until_in_ms);
  };
  hosts.on_left = [this] { left_ = true; };
  hosts.interrupted = [this] { return !options_.patience.pause(0); };
  return hosts;
}

}  // namespace muster::cluster
