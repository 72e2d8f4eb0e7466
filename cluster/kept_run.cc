#include "cluster/kept_run.h"

#include <filesystem>

#include "cluster/hosts_run.h"
#include "cluster/ssh.h"
#include "telemetry/host_name.h"

namespace muster::cluster {
namespace {

HostsRun MakeRun(const LocalJob& job, const LocalOptions& options, const std::string& build_id) {
  Ssh programs;
  programs.set_programs(options.program_dir);
  NodeLink::Options link;
  link.name = muster::HostName();
  link.argv = {"/bin/sh", "-c", NodeScript(programs, build_id)};
  link.environment = options.environment;
  link.explain = [](const std::string& text) {
    return text.empty() ? "launch node ended without a word" : text.substr(0, text.find('\n'));
  };
  HostsRun run;
  run.hosts.push_back({std::move(link), "", ""});
  run.host_of_role.assign(job.roles.size(), 0);
  std::error_code error;
  run.job_folder = std::filesystem::absolute(job.job_dir, error).lexically_normal().string();
  run.build_id = build_id;
  run.make_job = [&job](int) { return job; };
  run.can_detach = absl::OkStatus();
  run.here = true;
  return run;
}

}  // namespace

int RunKept(const LocalJob& job, const LocalOptions& options, const std::string& build_id) {
  return ExitCodeOf(RunOnHosts(MakeRun(job, options, build_id), options), options);
}

int AttachToKept(const LocalJob& job, const LocalOptions& options, const std::string& build_id,
                 bool cancel) {
  return ExitCodeOf(AttachToHosts(MakeRun(job, options, build_id), options, cancel), options);
}

}  // namespace muster::cluster
