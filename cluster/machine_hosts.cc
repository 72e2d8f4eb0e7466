#include "cluster/machine_hosts.h"

#include <fmt/format.h>

#include <utility>

namespace muster::cluster {

absl::StatusOr<RunHost> ReachMachine(Provider& provider, const Cluster& cluster,
                                     const Machine& machine) {
  ASSIGN_OR_RETURN(RunHost host, provider.Reach(machine));
  if (machine.spot) host.notices_of = Cluster::Provider_Name(cluster.provider());
  return host;
}

HostsRun MakeHostsRun(const ProviderRun& run, const LocalOptions& options, const LocalJob& draft,
                      std::string job_folder, size_t machines) {
  HostsRun hosts;
  hosts.host_of_role = PlaceRoles(draft.roles, machines);
  hosts.job_folder = std::move(job_folder);
  hosts.build_id = run.build_id;
  hosts.make_job = run.make_job;
  hosts.bundle = BundleFor(options);
  hosts.can_detach = absl::OkStatus();
  return hosts;
}

absl::Status SetHosts(Provider& provider, const Cluster& cluster,
                      const std::vector<Machine>& machines, HostsRun& hosts) {
  hosts.kept = provider.HasKeepers();
  for (const Machine& machine : machines) {
    RunHost host;
    host.link.name = fmt::format("of {} {}", RoleName(machine.role), machine.index);
    if (machine.state == MachineState::kRunning) {
      ASSIGN_OR_RETURN(host, ReachMachine(provider, cluster, machine));
    }
    hosts.hosts.push_back(std::move(host));
  }
  return absl::OkStatus();
}

}  // namespace muster::cluster
