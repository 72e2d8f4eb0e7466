// The providers of machines, by their name in the job file; LOCAL is none. Free functions.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cluster/node_set.h"
#include "cluster/provider.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

// What a provider is made of. Borrows all that is a reference.
struct ProviderSetup {
  const Cluster& cluster;  // of the job file
  ToolRunner tools;
  const Patience& patience;
  std::string public_key;  // that machines let in; "": none is made
  Shortcuts shortcuts = {};
  // The following are for Reach alone.
  std::function<RunHost(const SshHost&)> reach = nullptr;  // by ssh
  std::vector<std::string> environment = {};               // of the launcher
  std::string build_id = "";                               // of this program
  std::string program_dir = "";                            // the same
};

// Runs the providers' commands with the user's `environment`, and such that they ask nobody and
// leave it to us what to repeat.
ToolRunner MakeToolRunner(std::vector<std::string> environment);
// The same, and what begins commands for it.
struct Tools {
  ToolRunner run;
  std::function<void(const std::vector<std::string>& words)> begin;
};
Tools MakeTools(std::vector<std::string> environment);

// The folder of what stays as it is for a day, for whoever is logged in: zones have other names for
// another account.
DayFolder FactsOf(const std::string& folder, const std::vector<std::string>& environment);

// Whether the provider makes machines, so that there is something to give back.
bool MakesMachines(Cluster::Provider provider);

// PRECONDITION: any but LOCAL.
std::unique_ptr<Provider> MakeProvider(const ProviderSetup& setup);

// Whether its machines are reached by ssh, with a key of the job's own.
bool IsReachedBySsh(Cluster::Provider provider);

// Whether its machines cost the user money, which is asked about first.
bool BillsTheUser(Cluster::Provider provider);

// The folder of the machines for programs and jobs. "": ~/.muster.
std::string MachineFolder(const Cluster& cluster);

}  // namespace muster::cluster
