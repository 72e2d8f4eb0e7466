#include "cluster/ssh_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "cluster/attach_command.h"
#include "cluster/hosts_run.h"
#include "cluster/job_registry.h"
#include "cluster/local_roles.h"
#include "cluster/machine_key.h"
#include "cluster/node_set.h"
#include "cluster/providers.h"
#include "cluster/ssh.h"
#include "cluster/tool.h"
#include "configs/nearest.h"
#include "configs/scalar.h"
#include "telemetry/file.h"

namespace muster::cluster {
namespace {

constexpr char kHelp[] =
    R"(usage: launch ssh JOB ROLE [-L PORT:HOST:PORT]... [-- COMMAND...]

A shell, or COMMAND, on the machine of a role: master-0, worker-3, ps-0 … -L brings a port of that machine
here, as ssh's own does: -L 9090:127.0.0.1:40123 shows what a process there serves. Hosts, and machines on AWS and
Google Cloud, are reached by ssh; pods by kubectl, which brings ports or runs a command; Slurm's nodes by srun, which
brings no ports.
)";

struct SshCommandWords {
  std::string job, role;
  std::vector<std::string> forwards, command;
  bool help = false;
};

absl::StatusOr<SshCommandWords> Parse(const std::vector<std::string>& words) {
  SshCommandWords parsed;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") {
      parsed.command.assign(words.begin() + static_cast<ptrdiff_t>(i) + 1, words.end());
      break;
    }
    if (word == "--help" || word == "-h") {
      parsed.help = true;
      return parsed;
    }
    if (word == "-L" && (i + 1 == words.size() || words[i + 1] == "--")) {
      return absl::InvalidArgumentError("write -L PORT:HOST:PORT, such as -L 9090:127.0.0.1:9090");
    }
    if (word == "-L") {
      parsed.forwards.push_back(words[++i]);
    } else if (word.starts_with("-L") && word.size() > 2) {
      parsed.forwards.push_back(word.substr(2));
    } else if (word.starts_with("-")) {
      return absl::InvalidArgumentError(
          fmt::format("launch ssh has no flag {}; see launch ssh --help", Quoted(word)));
    } else if (parsed.job.empty()) {
      parsed.job = word;
    } else if (parsed.role.empty()) {
      parsed.role = word;
    } else {
      return absl::InvalidArgumentError(
          fmt::format("{} is one word too many: a command stands after --", Quoted(word)));
    }
  }
  if (parsed.role.empty()) {
    return absl::InvalidArgumentError("write launch ssh JOB ROLE, such as worker-0");
  }
  return parsed;
}

// The place of the machine of `role` among as many machines of the job. Fails when it has no such
// role.
absl::StatusOr<size_t> PlaceOf(const Job& job, const std::string& role, size_t machines) {
  const std::vector<LocalRole> roles = LocalRoles(job, /*cores=*/1);
  const std::vector<size_t> places = PlaceRoles(roles, machines);
  std::vector<std::string> names;
  for (size_t i = 0; i < roles.size(); ++i) {
    names.push_back(fmt::format("{}-{}", roles[i].role, roles[i].index));
    if (names.back() == role) return places[i];
  }
  return absl::InvalidArgumentError(
      fmt::format("the job has no role {}; {}", Quoted(role), WriteNearest(role, names)));
}

// Of machines that were made, one for each role but the chief, the one that runs, and of two the
// newer.
absl::StatusOr<Machine> MachineOf(const Job& job, const std::string& role,
                                  const std::vector<Machine>& listed) {
  // Masters, workers, servers, as PlaceRoles has them where there is a machine for each.
  const std::vector<LocalRole> roles = LocalRoles(job, /*cores=*/1);
  ASSIGN_OR_RETURN(const size_t place, PlaceOf(job, role, roles.size()));
  const std::string name = place == 0 ? "master-0" : role;
  const Machine* found = nullptr;
  for (const Machine& machine : listed) {
    if (machine.state != MachineState::kRunning) continue;
    if (fmt::format("{}-{}", RoleName(machine.role), machine.index) != name) continue;
    if (found == nullptr || machine.attempt > found->attempt) found = &machine;
  }
  if (found != nullptr) return *found;
  return absl::NotFoundError(
      fmt::format("no machine of {} runs: launch jobs describe {} shows how the job stands", role,
                  job.job_id()));
}

absl::StatusOr<std::vector<std::string>> TerminalOf(const SshCommandWords& words,
                                                    const SshCommandOptions& options) {
  ASSIGN_OR_RETURN(const JobEntry entry, JobRegistry(options.registry).Find(words.job));
  ASSIGN_OR_RETURN(const Job job, ReadJobOf(entry.job_dir));
  const Cluster& cluster = job.cluster();
  if (cluster.provider() == Cluster::LOCAL) {
    return absl::FailedPreconditionError("the job's roles are processes of this machine");
  }
  const bool makes = MakesMachines(cluster.provider());
  if (!makes && cluster.ssh().hosts().empty()) {
    return absl::FailedPreconditionError("the job file names no hosts");
  }
  const TerminalWish wish{
      .forwards = words.forwards, .command = words.command, .types = isatty(STDIN_FILENO) != 0};
  // Said before anything is asked for.
  ASSIGN_OR_RETURN(
      const size_t place,
      PlaceOf(job, words.role,
              makes ? LocalRoles(job, 1).size() : static_cast<size_t>(cluster.ssh().hosts_size())));
  MachineKey key;
  if (IsReachedBySsh(cluster.provider())) {
    ASSIGN_OR_RETURN(key, FindMachineKey(options.machines, job.job_id()));
  }
  const Ssh& ssh = makes ? key.ssh : cluster.ssh();
  const Patience patience = RealPatience();
  const auto provider = MakeProvider({.cluster = cluster,
                                      .tools = MakeToolRunner(options.environment),
                                      .patience = patience,
                                      .environment = options.environment});
  ASSIGN_OR_RETURN(const std::vector<Machine> listed, provider->List(job.job_id()));
  Machine machine;
  if (makes) {
    ASSIGN_OR_RETURN(machine, MachineOf(job, words.role, listed));
  } else {
    machine = listed[place];
  }
  if (const auto host = provider->SshHostOf(machine)) {
    return SshTerminalWords(ssh, *host, wish.forwards, wish.command);
  }
  return provider->Terminal(machine, wish);
}

// With the path of its program.
absl::StatusOr<std::vector<std::string>> Runnable(std::vector<std::string> words,
                                                  const std::vector<std::string>& environment) {
  std::string path = FindProgram(words.front(), Variable(environment, "PATH"));
  if (path.empty()) {
    return absl::NotFoundError(fmt::format("there is no program {} in PATH", words.front()));
  }
  words.front() = std::move(path);
  return words;
}

}  // namespace

int RunSshCommand(const CommandContext& context, const SshCommandOptions& options) {
  const auto words = Parse(context.words);
  if (words.ok() && words->help) {
    fmt::print(context.out, "{}", kHelp);
    return kSucceeded;
  }
  auto argv = words.ok() ? TerminalOf(*words, options) : words.status();
  if (argv.ok()) argv = Runnable(*std::move(argv), options.environment);
  if (!argv.ok()) {
    fmt::print(context.err, "{}\n", std::string(argv.status().message()));
    return kWrongInput;
  }
  const auto pointers = [](const std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
    result.push_back(nullptr);
    return result;
  };
  std::fflush(context.out);
  execve(argv->front().c_str(), pointers(*argv).data(), pointers(options.environment).data());
  fmt::print(context.err, "{}\n",
             std::string(ErrnoStatus(errno, "cannot run " + argv->front()).message()));
  return kWrongInput;
}

}  // namespace muster::cluster
