#include "cluster/ssh_provider.h"

#include <fmt/format.h>

#include <utility>

#include "cluster/ssh.h"
#include "cluster/tool.h"

namespace muster::cluster {

absl::StatusOr<std::string> FindSsh(const std::vector<std::string>& environment) {
  std::string program = FindProgram("ssh", Variable(environment, "PATH"));
  if (!program.empty()) return program;
  return absl::NotFoundError(
      "there is no program ssh in PATH: install it (apt install openssh-client)");
}

RunHost SshRunHost(const Ssh& ssh, const SshHost& host, const std::string& program,
                   const std::vector<std::string>& environment, const std::string& build_id) {
  RunHost way;
  way.link.name = HostName(host);
  way.link.argv = SshWords(ssh, host);
  way.link.argv.front() = program;
  way.link.argv.push_back("exec sh -c " + ShellQuote(NodeScript(ssh, build_id)));
  way.link.environment = environment;
  way.link.explain = [&ssh, host](const std::string& text) { return ExplainSsh(ssh, host, text); };
  way.address = host.address();
  return way;
}

SshProvider::SshProvider(Ssh ssh, std::vector<std::string> environment, std::string build_id)
    : ssh_(std::move(ssh)), environment_(std::move(environment)), build_id_(std::move(build_id)) {}

absl::StatusOr<std::vector<std::string>> SshProvider::Check(const MachineOrder&) {
  RETURN_IF_ERROR(FindSsh(environment_).status());
  return std::vector<std::string>();
}

absl::StatusOr<std::vector<Machine>> SshProvider::List(const std::string& job_id) {
  std::vector<Machine> machines;
  for (const SshHost& host : ssh_.hosts()) {
    machines.push_back({.id = HostName(host),
                        .job_id = job_id,
                        .index = static_cast<int>(machines.size()),
                        .state = MachineState::kRunning,
                        .address = host.address()});
  }
  return machines;
}

absl::StatusOr<RunHost> SshProvider::Reach(const Machine& machine) {
  ASSIGN_OR_RETURN(const std::string program, FindSsh(environment_));
  RunHost host = SshRunHost(ssh_, ssh_.hosts(machine.index), program, environment_, build_id_);
  host.address_field = fmt::format("cluster.ssh.hosts[{}].address", machine.index);
  return host;
}

}  // namespace muster::cluster
