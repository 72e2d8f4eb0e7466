#include "cluster/ssh_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "cluster/attach_command.h"
#include "cluster/hosts_run.h"
#include "cluster/job_registry.h"
#include "cluster/local_roles.h"
#include "cluster/ssh.h"
#include "cluster/ssh_provider.h"
#include "configs/nearest.h"
#include "configs/scalar.h"
#include "telemetry/file.h"

namespace muster::cluster {
namespace {

constexpr char kHelp[] =
    R"(usage: launch ssh JOB ROLE [-L PORT:HOST:PORT]... [-- COMMAND...]

A shell, or COMMAND, on the host of a role of a job of provider SSH: master-0, worker-3, ps-0 … -L brings
a port of that host here, as ssh's own does: -L 9090:127.0.0.1:40123 shows what a process there serves.
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
    if (word == "-L" && i + 1 < words.size()) {
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

// The host of `role`: its place in cluster.ssh.hosts.
absl::StatusOr<size_t> HostOf(const Job& job, const std::string& role) {
  if (job.cluster().provider() != Cluster::SSH) {
    return absl::FailedPreconditionError(
        fmt::format("the job's provider is {}: launch ssh knows the hosts of SSH alone",
                    Cluster::Provider_Name(job.cluster().provider())));
  }
  const auto hosts = static_cast<size_t>(job.cluster().ssh().hosts_size());
  if (hosts == 0) return absl::FailedPreconditionError("the job file names no hosts");
  const std::vector<LocalRole> roles = LocalRoles(job, /*cores=*/1);
  const std::vector<size_t> places = PlaceRoles(roles, hosts);
  std::vector<std::string> names;
  for (size_t i = 0; i < roles.size(); ++i) {
    names.push_back(fmt::format("{}-{}", roles[i].role, roles[i].index));
    if (names.back() == role) return places[i];
  }
  return absl::InvalidArgumentError(
      fmt::format("the job has no role {}; {}", Quoted(role), WriteNearest(role, names)));
}

absl::StatusOr<std::vector<std::string>> SshTo(const SshCommandWords& words,
                                               const std::string& registry,
                                               const std::vector<std::string>& environment) {
  ASSIGN_OR_RETURN(const JobEntry entry, JobRegistry(registry).Find(words.job));
  ASSIGN_OR_RETURN(const Job job, ReadJobOf(entry.job_dir));
  ASSIGN_OR_RETURN(const size_t host, HostOf(job, words.role));
  ASSIGN_OR_RETURN(const std::string program, FindSsh(environment));
  const Ssh& ssh = job.cluster().ssh();
  std::vector<std::string> argv =
      SshTerminalWords(ssh, ssh.hosts(static_cast<int>(host)), words.forwards, words.command);
  argv.front() = program;
  return argv;
}

}  // namespace

int RunSshCommand(const CommandContext& context, const std::string& registry,
                  const std::vector<std::string>& environment) {
  const auto words = Parse(context.words);
  if (words.ok() && words->help) {
    fmt::print(context.out, "{}", kHelp);
    return kSucceeded;
  }
  auto argv = words.ok() ? SshTo(*words, registry, environment) : words.status();
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
  execve(argv->front().c_str(), pointers(*argv).data(), pointers(environment).data());
  fmt::print(context.err, "{}\n", std::string(ErrnoStatus(errno, "cannot run ssh").message()));
  return kWrongInput;
}

}  // namespace muster::cluster
