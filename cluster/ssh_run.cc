#include "cluster/ssh_run.h"

#include <fmt/format.h>

#include "cluster/bundle.h"
#include "cluster/hosts_run.h"
#include "cluster/ssh.h"
#include "cluster/tool.h"

namespace muster::cluster {
namespace {

absl::StatusOr<HostsRun> MakeRun(const Ssh& ssh,
                                 const std::function<LocalJob(int threads)>& make_job,
                                 const LocalOptions& options, const std::string& build_id) {
  ASSIGN_OR_RETURN(const std::string program, FindSsh(options.environment));
  HostsRun run;
  run.can_detach = absl::OkStatus();
  for (int i = 0; i < ssh.hosts_size(); ++i) {
    run.hosts.push_back(SshRunHost(ssh, ssh.hosts(i), program, options.environment, build_id));
    run.hosts.back().address_field = fmt::format("cluster.ssh.hosts[{}].address", i);
  }
  const LocalJob draft = make_job(1);
  run.host_of_role = PlaceRoles(draft.roles, run.hosts.size());
  run.job_folder = JobFolder(ssh, draft.job_id);
  run.build_id = build_id;
  run.make_job = make_job;
  run.bundle = BundleFor(options);
  return run;
}

}  // namespace

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

std::vector<size_t> PlaceRoles(const std::vector<LocalRole>& roles, size_t hosts) {
  size_t workers = 0;
  for (const LocalRole& role : roles) workers += role.role == "worker" ? 1 : 0;
  std::vector<size_t> places;
  for (const LocalRole& role : roles) {
    size_t machine = 0;  // the master's
    const auto index = static_cast<size_t>(role.index);
    if (role.role == "worker") machine = 1 + index;
    if (role.role == "ps") machine = 1 + workers + index;
    places.push_back(machine % hosts);
  }
  return places;
}

int RunOnSshHosts(const Ssh& ssh, const std::function<LocalJob(int threads)>& make_job,
                  const LocalOptions& options, const std::string& build_id) {
  const auto run = MakeRun(ssh, make_job, options, build_id);
  return ExitCodeOf(run.ok() ? RunOnHosts(*run, options) : run.status(), options);
}

int AttachToSshHosts(const Ssh& ssh, const LocalJob& job, const LocalOptions& options,
                     const std::string& build_id, bool cancel) {
  const auto run = MakeRun(
      ssh, [&job](int) { return job; }, options, build_id);
  return ExitCodeOf(run.ok() ? AttachToHosts(*run, options, cancel) : run.status(), options);
}

}  // namespace muster::cluster
