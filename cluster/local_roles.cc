#include "cluster/local_roles.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>

#include "configs/catalog.h"
#include "configs/job_yaml.h"
#include "configs/schedule.h"
#include "configs/tiers.h"

namespace muster::cluster {
namespace {

// The training contract's default: seven days.
constexpr double kDefaultBusyBelow = 0.3;
constexpr int64_t kDefaultIdleMs = 300'000;
constexpr int64_t kDefaultRunningSeconds = 604'800;
constexpr int kDefaultStartTimeoutSeconds = 60;
constexpr int kMostGpus = 1024;  // more than any machine has

}  // namespace

std::vector<LocalRole> LocalRoles(const Job& job, int cores) {
  const TrainingInput& input = job.training_input();
  const int workers = static_cast<int>(SizeOf(input, Role::kWorker).count);
  const int servers = static_cast<int>(SizeOf(input, Role::kParameterServer).count);
  const bool custom = input.scale_tier() == CUSTOM;
  const bool alone = workers + servers == 0;
  const bool chief = !alone && (!job.training().has_chief_trains() ||
                                job.training().chief_trains() || workers == 0);
  const int trainers = std::max(1, workers + (chief ? 1 : 0));
  const int threads =
      job.training().threads() > 0 ? job.training().threads() : std::max(1, cores / trainers);
  const auto sized_by = [custom](const char* field) {
    return std::string(custom ? field : "trainingInput.scaleTier");
  };

  const Catalog catalog = Catalog::BuiltIn();
  const auto gpus = [&](Role role) {
    const int64_t count = AcceleratorsOf(input, role, catalog).count();
    return GpuClaim{.wanted = static_cast<int>(std::clamp<int64_t>(count, 1, kMostGpus))};
  };

  std::vector<LocalRole> roles;
  roles.push_back(
      {"master", 0, "master", alone ? threads : 1, sized_by("trainingInput.masterType")});
  if (alone) roles.back().gpus = gpus(Role::kMaster);
  const Ports& ports = job.cluster().ports();
  const std::vector<std::string> listens =
      job.cluster().has_ports()
          ? std::vector{fmt::format("--ports={}-{}", ports.first(), ports.last())}
          : std::vector<std::string>();
  roles.back().arguments = listens;
  const int shards = std::max(1, static_cast<int>(job.training().server_shards()));
  const int64_t spare = cores - int64_t{threads} * trainers - int64_t{shards} * servers;
  for (int i = 0; i < servers; ++i) {
    roles.push_back({"ps", i, "ps", 1, sized_by("trainingInput.parameterServerCount")});
    roles.back().arguments = listens;
    if (spare >= 0) roles.back().first_core = cores - shards * (servers - i);
  }
  const auto add_trainer = [&](const char* name, int index, Role role, const char* field) {
    roles.push_back({name, index, "worker", threads, sized_by(field)});
    roles.back().gpus = gpus(role);
    roles.back().arguments = {
        "--device=" + Training::Device_Name(job.training().device()),
        "--precision=" + Training::Precision_Name(job.training().precision())};
    if (job.training().has_cuda_graphs() && !job.training().cuda_graphs()) {
      roles.back().arguments.emplace_back("--cuda-graphs=false");
    }
  };
  if (chief) add_trainer("chief", 0, Role::kMaster, "trainingInput.masterType");
  for (int i = 0; i < workers; ++i) {
    add_trainer("worker", i, Role::kWorker, "trainingInput.workerCount");
  }
  ShareGpus(std::vector<size_t>(roles.size(), 0), &roles);
  return roles;
}

void ShareGpus(const std::vector<size_t>& host_of_role, std::vector<LocalRole>* roles) {
  std::map<size_t, int> trainers;  // by host
  for (size_t i = 0; i < roles->size(); ++i) {
    LocalRole& role = (*roles)[i];
    if (role.gpus) role.gpus->process = trainers[host_of_role[i]]++;
  }
  for (size_t i = 0; i < roles->size(); ++i) {
    LocalRole& role = (*roles)[i];
    if (role.gpus) role.gpus->processes = trainers[host_of_role[i]];
  }
}

LocalJob MakeLocalJob(const Job& job, int cores) {
  const TrainingInput& input = job.training_input();
  LocalJob local;
  local.job_id = job.job_id();
  local.job_dir = input.job_dir();
  local.provider = muster::Cluster::Provider_Name(job.cluster().provider());
  local.job_yaml = WriteJobYaml(job);
  local.roles = LocalRoles(job, cores);
  local.total_steps = TotalSteps(job.training());
  const int timeout = job.cluster().start_timeout_s();
  local.start_timeout_ms = int64_t{1000} * (timeout > 0 ? timeout : kDefaultStartTimeoutSeconds);
  const auto& running = input.scheduling().max_running_time();
  local.shared_memory = !job.cluster().has_shared_memory() || job.cluster().shared_memory();
  local.max_running_ms = input.scheduling().has_max_running_time()
                             ? running.seconds() * 1000 + running.nanos() / 1'000'000
                             : kDefaultRunningSeconds * 1000;
  // Whoever has said how long it may take has said how long it may be left alone.
  local.stays = local.max_running_ms != kDefaultRunningSeconds * 1000;
  if (job.cluster().has_idle()) {
    const auto& idle = job.cluster().idle();
    local.idle.busy_below = idle.cpu_below() > 0 ? idle.cpu_below() : kDefaultBusyBelow;
    local.idle.for_ms = idle.has_for_() ? idle.for_().seconds() * 1000 : kDefaultIdleMs;
  }
  local.tf.workers = static_cast<int>(SizeOf(input, Role::kWorker).count);
  local.tf.servers = static_cast<int>(SizeOf(input, Role::kParameterServer).count);
  local.tf.use_chief = input.use_chief_in_tf_config();
  local.tf.job_name = input.python_module();
  local.tf.args.assign(input.args().begin(), input.args().end());
  return local;
}

}  // namespace muster::cluster
