#include "cluster/ssh_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "cluster/bundle.h"
#include "cluster/hosts_run.h"
#include "cluster/ssh.h"
#include "cluster/tool.h"

namespace muster::cluster {
namespace {

absl::StatusOr<int> Run(const Ssh& ssh, const std::function<LocalJob(int threads)>& make_job,
                        const LocalOptions& options, const std::string& build_id) {
  const std::string path_variable = Variable(options.environment, "PATH");
  const std::string program = FindProgram("ssh", path_variable);
  if (program.empty()) {
    return absl::NotFoundError(
        "there is no program ssh in PATH: install it (apt install openssh-client)");
  }
  HostsRun run;
  for (int i = 0; i < ssh.hosts_size(); ++i) {
    const SshHost& host = ssh.hosts(i);
    NodeLink::Options link;
    link.name = HostName(host);
    link.argv = SshWords(ssh, host);
    link.argv.front() = program;
    link.argv.push_back("exec sh -c " + ShellQuote(NodeScript(ssh, build_id)));
    link.environment = options.environment;
    link.explain = [&ssh, &host](const std::string& text) { return ExplainSsh(ssh, host, text); };
    run.hosts.push_back(
        {std::move(link), host.address(), fmt::format("cluster.ssh.hosts[{}].address", i)});
  }
  const LocalJob draft = make_job(1);
  run.host_of_role = PlaceRoles(draft.roles, run.hosts.size());
  run.job_folder = JobFolder(ssh, draft.job_id);
  run.build_id = build_id;
  run.make_job = make_job;
  std::shared_ptr<const std::string> bundle;
  run.bundle = [&]() -> absl::StatusOr<std::shared_ptr<const std::string>> {
    if (bundle != nullptr) return bundle;
    const std::string_view text = "sending the programs to where they are missing\n";
    (void)!write(options.out_fd, text.data(), text.size());
    ASSIGN_OR_RETURN(bundle, MakeBundle(options.program_dir, options.environment, path_variable));
    return bundle;
  };
  return RunOnHosts(run, options);
}

}  // namespace

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
  return ExitCodeOf(Run(ssh, make_job, options, build_id), options);
}

}  // namespace muster::cluster
