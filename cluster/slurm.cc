#include "cluster/slurm.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <cmath>
#include <map>

namespace muster::cluster {
namespace {

constexpr int kLookSeconds = 5;
constexpr int kLooks = 3;

// Minutes, rounded up: Slurm's own unit.
int64_t Minutes(int64_t seconds) { return std::max<int64_t>(1, (seconds + 59) / 60); }

}  // namespace

std::vector<SlurmComponent> SlurmComponents(const Plan& plan) {
  std::vector<SlurmComponent> components;
  for (const PlanRole& role : plan.roles) {
    if (role.role == Role::kEvaluator) continue;
    components.push_back(
        {role.role, role.count, role.vcpus, role.memory_gb, role.accelerator_count});
  }
  return components;
}

std::string SlurmScript(const SlurmRequest& request, const Slurm& slurm) {
  std::string script = "#!/bin/sh\n";
  bool first = true;
  for (const SlurmComponent& component : request.components) {
    const auto option = [&script](const std::string& text) { script += "#SBATCH " + text + "\n"; };
    if (!first) option("hetjob");
    option("--job-name=" + request.job_id);
    option(fmt::format("--time={}", Minutes(request.max_running_s)));
    if (first) option("--output=" + request.log_path);
    if (first) option("--no-requeue");
    option(fmt::format("--nodes={} --ntasks-per-node=1 --cpus-per-task={}", component.machines,
                       component.cpus));
    option(fmt::format("--mem={}M", std::llround(component.memory_gb * 1024)));
    if (component.gpus > 0) option(fmt::format("--gres=gpu:{}", component.gpus));
    if (!slurm.partition().empty()) option("--partition=" + slurm.partition());
    if (!slurm.account().empty()) option("--account=" + slurm.account());
    if (!slurm.qos().empty()) option("--qos=" + slurm.qos());
    if (!slurm.constraint().empty()) option("--constraint=" + slurm.constraint());
    for (const std::string& more : slurm.options()) option(more);
    first = false;
  }
  script += fmt::format(
      "# Holds the nodes while a launcher uses them.\n"
      "idle=0\n"
      "while [ $idle -lt {} ]; do\n"
      "  sleep {}\n"
      "  if squeue -h -s -j \"$SLURM_JOB_ID\" -o %j | grep -qx {}; then idle=0; else "
      "idle=$((idle + 1)); fi\n"
      "done\n",
      kLooks, kLookSeconds, kSlurmStep);
  return script;
}

absl::StatusOr<std::vector<SlurmStatus>> ParseSqueue(const std::string& text) {
  std::map<int, SlurmStatus> by_component;
  for (const auto line : absl::StrSplit(text, '\n', absl::SkipWhitespace())) {
    const std::vector<std::string> fields = absl::StrSplit(line, '|');
    // "12", or "12+1" of a heterogeneous job
    int component = 0;
    const std::vector<std::string> id = absl::StrSplit(fields[0], '+');
    if (fields.size() != 5 || id.size() > 2 ||
        (id.size() == 2 && !absl::SimpleAtoi(id[1], &component))) {
      return absl::InvalidArgumentError(fmt::format("squeue says what cannot be understood: {}",
                                                    std::string_view(line.data(), line.size())));
    }
    by_component[component] = {fields[2], fields[3], fields[1], fields[4]};
  }
  std::vector<SlurmStatus> components;
  for (auto& [component, status] : by_component) components.push_back(std::move(status));
  return components;
}

std::vector<std::string> SrunWords(const std::string& job, int component, const std::string& node,
                                   int cpus, const std::string& script) {
  std::vector<std::string> words = {"srun", "--jobid=" + job};
  if (component >= 0) words.push_back(fmt::format("--het-group={}", component));
  words.insert(words.end(),
               {"--nodelist=" + node, "--nodes=1", "--ntasks=1",
                fmt::format("--cpus-per-task={}", cpus), "--overlap", "--unbuffered", "--mpi=none",
                "--quiet", fmt::format("--job-name={}", kSlurmStep), "sh", "-c", script});
  return words;
}

std::string ExplainSlurm(const std::string& complaint) {
  std::string last;
  for (const auto line : absl::StrSplit(complaint, '\n', absl::SkipWhitespace())) {
    last = std::string(line.data(), line.size());
    for (const char* prefix : {"sbatch: ", "srun: ", "squeue: ", "error: "}) {
      if (last.starts_with(prefix)) last = last.substr(std::string(prefix).size());
    }
  }
  const auto said = [&](const char* text) { return complaint.find(text) != std::string::npos; };
  if (said("Invalid partition")) {
    return last + ": name one that sinfo lists in cluster.slurm.partition";
  }
  if (said("Requested node configuration is not available") || said("More processors requested")) {
    return last + ": no nodes have what the machine types ask for; name smaller types";
  }
  if (said("Invalid account")) return last + ": name one of yours in cluster.slurm.account";
  if (said("time limit")) return last + ": write a smaller scheduling.maxRunningTime";
  if (said("Unable to contact slurm controller") || said("configuration source"))
    return last + ": is this a node of the cluster?";
  return last.empty() ? "it ended without a word" : last;
}

}  // namespace muster::cluster
