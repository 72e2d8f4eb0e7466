// SSH: runs a job on hosts that the user's ssh reaches, and leaves nothing running on them.
//
// Called as RunLocal is.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cluster/hosts_run.h"
#include "cluster/local.h"
#include "configs/job.pb.h"

namespace muster::cluster {

// On which host (index in cluster.ssh.hosts) each of `roles` lives. The master's machine is the
// first host; workers, then parameter servers, take one after the other from there on, and begin
// again when there are more machines than hosts.
std::vector<size_t> PlaceRoles(const std::vector<LocalRole>& roles, size_t hosts);

// The way to `launch node` on a host. `program`: the path of ssh. Borrows `ssh` until the link has
// ended.
RunHost SshRunHost(const Ssh& ssh, const SshHost& host, const std::string& program,
                   const std::vector<std::string>& environment, const std::string& build_id);

// The path of the user's ssh. Fails where there is none.
absl::StatusOr<std::string> FindSsh(const std::vector<std::string>& environment);

// `ssh`: job.cluster.ssh. `make_job`: as HostsRun has it. `build_id`: of this program. Exit codes
// as RunLocal's; 2 also when a host cannot be used.
int RunOnSshHosts(const Ssh& ssh, const std::function<LocalJob(int threads)>& make_job,
                  const LocalOptions& options, const std::string& build_id);

// Follows `job`, which runs there without a launcher, or ends it as Ctrl-C does (AttachToHosts).
int AttachToSshHosts(const Ssh& ssh, const LocalJob& job, const LocalOptions& options,
                     const std::string& build_id, bool cancel);

}  // namespace muster::cluster
