#include "cluster/slurm.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string_view>

#include "cluster/ssh.h"

namespace muster::cluster {
namespace {

// Minutes, rounded up: Slurm's own unit.
int64_t Minutes(int64_t seconds) { return std::max<int64_t>(1, (seconds + 59) / 60); }

constexpr std::string_view kMark = "muster";

// Of all components of one order; names a role, and no spaces.
std::string Mark(const MachineOrder& order, const MachineGroup& group) {
  std::string owner = order.owner;
  // It is a word of the script.
  std::ranges::replace_if(
      owner, [](unsigned char c) { return std::isalnum(c) == 0 && c != '@' && c != '.'; }, '-');
  return fmt::format("{}:{}:{}:{}:{}", kMark, order.run, order.attempt, RoleName(group.role),
                     owner);
}

bool ReadMark(const std::string& mark, SlurmStatus* status) {
  const std::vector<std::string> parts = absl::StrSplit(mark, ':');
  if (parts.size() != 5 || parts[0] != kMark) return false;
  const std::optional<Role> role = RoleOf(parts[3]);
  if (!role || !absl::SimpleAtoi(parts[2], &status->attempt)) return false;
  status->run = parts[1];
  status->role = *role;
  status->owner = parts[4];
  return true;
}

// The number of hosts of the job before those of `group`.
int64_t FirstPlace(const MachineOrder& order, const MachineGroup& group) {
  int64_t first = group.first_index;
  for (const MachineGroup& other : order.groups) first += other.role < group.role ? other.count : 0;
  return first;
}

std::string Options(const MachineOrder& order, const MachineGroup& group, const Slurm& slurm) {
  std::string options;
  const auto option = [&options](const std::string& text) { options += "#SBATCH " + text + "\n"; };
  option("--job-name=" + order.job_id);
  option("--comment=" + Mark(order, group));
  option(fmt::format("--time={}", Minutes(order.lifetime_s)));
  option(
      fmt::format("--nodes={} --ntasks-per-node=1 --cpus-per-task={}", group.count, group.vcpus));
  option(fmt::format("--mem={}M", std::llround(group.memory_gb * 1024)));
  if (group.gpus > 0) option(fmt::format("--gres=gpu:{}", group.gpus));
  if (!slurm.partition().empty()) option("--partition=" + slurm.partition());
  if (!slurm.account().empty()) option("--account=" + slurm.account());
  if (!slurm.qos().empty()) option("--qos=" + slurm.qos());
  if (!slurm.constraint().empty()) option("--constraint=" + slurm.constraint());
  for (const std::string& more : slurm.options()) option(more);
  return options;
}

// srun on one node of the component `id`, beside what runs there.
std::vector<std::string> StepWords(const std::string& id, const std::string& node) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(id, absl::MaxSplits('+', 1));
  std::vector<std::string> words = {"srun", "--jobid=" + parts.first};
  if (!parts.second.empty()) words.push_back("--het-group=" + parts.second);
  words.insert(words.end(), {"--nodelist=" + node, "--nodes=1", "--ntasks=1", "--overlap",
                             "--mpi=none", "--quiet"});
  return words;
}

}  // namespace

std::string SlurmScript(const MachineOrder& order, const Slurm& slurm, const std::string& programs,
                        const std::string& folder) {
  std::string script = "#!/bin/sh\n#SBATCH --output=/dev/null\n#SBATCH --no-requeue\n";
  for (const MachineGroup& group : order.groups) {
    if (&group != &order.groups.front()) script += "#SBATCH hetjob\n";
    script += Options(order, group, slurm);
  }
  script += fmt::format(
      "umask 077\n"
      "p={}\n"
      "d={}\n"
      "mkdir -p \"$d/logs\" && exec >\"$d/logs/slurm.log\" 2>&1\n"
      "keep() {{\n"
      "  first=$1; shift\n"
      // Whoever comes to a node where it cannot be sees why.
      "  srun \"$@\" --ntasks-per-node=1 --overlap --mpi=none --quiet --wait=0 "
      "--kill-on-bad-exit=0 --job-name=muster-keeper \\\n"
      "    sh -c '\"$0/launch\" node keep \"$1\" $(($2 + SLURM_PROCID)) || sleep 20' \"$p\" "
      "\"$d\" \"$first\" </dev/null\n"
      "}}\n",
      ShellPath(programs), ShellPath(folder));
  for (size_t i = 0; i < order.groups.size(); ++i) {
    const MachineGroup& group = order.groups[i];
    const std::string component =
        order.groups.size() > 1 ? fmt::format(" --het-group={}", i) : std::string();
    // The first component has this script, and its nodes go with it.
    const std::string give_back =
        i > 0 ? fmt::format("; scancel --quiet \"$SLURM_JOB_ID_HET_GROUP_{}\"", i) : std::string();
    script += fmt::format("(keep {}{} --nodes={} --ntasks={} --cpus-per-task={}{}) &\n",
                          FirstPlace(order, group), component, group.count, group.count,
                          group.vcpus, give_back);
  }
  return script + "wait\n";
}

std::vector<SlurmStatus> ParseSqueue(const std::string& text) {
  std::vector<SlurmStatus> components;
  for (const auto line : absl::StrSplit(text, '\n', absl::SkipWhitespace())) {
    // What others have called theirs may hold anything.
    const std::vector<std::string> fields = absl::StrSplit(line, '|');
    SlurmStatus status;
    if (fields.size() != 8 || !ReadMark(fields[6], &status) ||
        !absl::SimpleAtoi(fields[2], &status.nodes) || !absl::SimpleAtoi(fields[3], &status.cpus)) {
      continue;
    }
    status.id = fields[0];
    status.state = fields[1];
    status.node_list = fields[4];
    status.reason = fields[5] == "None" ? "" : fields[5];
    status.job_id = fields[7];
    components.push_back(std::move(status));
  }
  return components;
}

bool SlurmHasEnded(const std::string& state) {
  constexpr std::array<std::string_view, 9> kEnded = {"BOOT_FAIL",     "CANCELLED", "COMPLETED",
                                                      "DEADLINE",      "FAILED",    "NODE_FAIL",
                                                      "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"};
  return std::ranges::count(kEnded, state) > 0;
}

std::map<std::string, std::string> ParseNodeAddresses(const std::string& text) {
  std::map<std::string, std::string> addresses;
  for (const auto line : absl::StrSplit(text, '\n', absl::SkipWhitespace())) {
    std::map<std::string, std::string> values;
    for (const auto word : absl::StrSplit(line, ' ')) {
      const std::pair<std::string, std::string> value =
          absl::StrSplit(word, absl::MaxSplits('=', 1));
      values.insert(value);
    }
    if (values.contains("NodeName")) addresses[values["NodeName"]] = values["NodeAddr"];
  }
  return addresses;
}

std::vector<std::string> SrunWords(const std::string& id, const std::string& node, int cpus,
                                   const std::string& script) {
  std::vector<std::string> words = StepWords(id, node);
  words.insert(words.end(), {fmt::format("--cpus-per-task={}", cpus), "--unbuffered",
                             "--job-name=muster-node", "sh", "-c", script});
  return words;
}

std::vector<std::string> SrunTerminalWords(const std::string& id, const std::string& node,
                                           const TerminalWish& wish) {
  std::vector<std::string> words = StepWords(id, node);
  words.emplace_back("--job-name=muster-terminal");
  words.emplace_back(wish.types ? "--pty" : "--unbuffered");
  const std::vector<std::string> command = wish.CommandOrShell();
  words.insert(words.end(), command.begin(), command.end());
  return words;
}

std::string ExplainSlurm(const std::string& complaint) {
  std::string last;
  for (const auto line : absl::StrSplit(complaint, '\n', absl::SkipWhitespace())) {
    last = std::string(line.data(), line.size());
    for (const char* prefix : {"sbatch: ", "srun: ", "squeue: ", "scontrol: ", "error: "}) {
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

bool IsWithoutAnswer(const std::string& complaint) {
  for (const char* text : {"Socket timed out", "Unable to contact", "Zero Bytes were transmitted",
                           "Communication connection failure", "Connection refused"}) {
    if (complaint.find(text) != std::string::npos) return true;
  }
  return false;
}

}  // namespace muster::cluster
