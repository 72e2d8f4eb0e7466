// Runs a job on machines of a provider. What is made for it is given back on every way out, unless
// the job was left to go on; then whoever attaches to it does.
//
// Called as RunLocal is.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "cluster/local.h"
#include "cluster/plan.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct ProviderRun {
  const Cluster& cluster;  // with a provider that MakeProvider knows
  const Plan& plan;
  int64_t max_wait_s = 0;  // for machines
  bool yes = false;        // whoever starts it has agreed to what it costs
  bool dry_run = false;    // only prints the commands, in order; none where nothing is made
  std::string build_id;    // of this program
  std::string folder;      // of journals and keys: ~/.muster/machines
  std::string facts;  // of what stays as it is for a day: ~/.muster/prices; "": nothing is kept
  std::string owner;  // "user@host"
  std::function<LocalJob(int threads)> make_job;  // as HostsRun has it
  // Of NVIDIA's, that machines with GPUs must have; 0: the job computes on none.
  int64_t oldest_driver = 0;
};

// Exit codes as RunLocal's; 2 also when the machines cannot be had.
int RunOnProvider(const ProviderRun& run, const LocalOptions& options);

// Follows the job that was left there, or ends it as Ctrl-C does, and gives its machines back when
// it has ended. Of `run` all but max_wait_s, yes and dry_run count. Exit codes as
// AttachToHosts'; 2 also when its machines are not known here.
int AttachOnProvider(const ProviderRun& run, const LocalOptions& options, bool cancel);

}  // namespace muster::cluster
