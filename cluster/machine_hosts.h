// A provider's machines as the hosts of a run.
//
// For the launcher's main thread.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "cluster/hosts_run.h"
#include "cluster/provider.h"
#include "cluster/provider_run.h"

namespace muster::cluster {

// The way to a machine that runs; of a spot machine with who tells that it is taken away.
absl::StatusOr<RunHost> ReachMachine(Provider& provider, const Cluster& cluster,
                                     const Machine& machine);

// A run on `machines` of them, one for each of the plan: masters, workers, servers. Lacks its
// hosts. `job_folder`: of the job, on the machines.
HostsRun MakeHostsRun(const ProviderRun& run, const LocalOptions& options, const LocalJob& draft,
                      std::string job_folder, size_t machines);

// Gives it these; there is no way to one that does not run, but a name. Fails where one that runs
// cannot be reached.
absl::Status SetHosts(Provider& provider, const Cluster& cluster,
                      const std::vector<Machine>& machines, HostsRun& hosts);

}  // namespace muster::cluster
