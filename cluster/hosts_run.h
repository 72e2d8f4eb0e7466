// Runs a job on hosts that the launcher reaches through commands of its own, however it came by
// them, and leaves nothing running there.
//
// Called as RunLocal is.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cluster/host_steward.h"
#include "cluster/local.h"
#include "cluster/node_link.h"
#include "cluster/run_keys.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct HostsRun {
  std::vector<RunHost> hosts;        // the first has the master
  std::vector<size_t> host_of_role;  // index in `hosts`
  std::string job_folder;            // on the hosts; may begin with "~/"
  std::string build_id;              // of this program, which theirs must have
  NodeLink::Bundle bundle;           // asked when a host lacks the programs
  // The job as `threads` per trainer make it, its roles in the order of host_of_role.
  std::function<LocalJob(int threads)> make_job;
  // Why the job cannot go on without its launcher; OK when it can.
  absl::Status can_detach =
      absl::FailedPreconditionError("its machines are given back when its launcher ends");
  bool kept = false;  // a keeper of the job begins with each host (Provider::HasKeepers)
  HostSteward* steward = nullptr;  // called while the job is followed; null: nobody
  bool here = false;  // the one host is this machine, and the job's directory is the folder
  // The hosts are given back after the job, with all that lies there. Such a job goes on without
  // its launcher only when that has said so.
  bool rented = false;
  // Told before the job is left, for how long at most, and what its roles are known by; when it
  // fails the job is not. May be null.
  std::function<absl::Status(int64_t until_in_ms, const RunKeys& keys)> before_leaving = nullptr;
  RunKeys keys;  // of a job that runs already; without a token no role of it can be started again
  std::function<void()> on_left = nullptr;  // it goes on without this launcher; may be null
  // Whether the user has interrupted, before the job is followed; null: that ends this process.
  std::function<bool()> interrupted = nullptr;
};

// On which host each of `roles` lives. The master's machine is the first host; workers, then
// parameter servers, take one after the other from there on, and begin again when there are more
// machines than hosts.
std::vector<size_t> PlaceRoles(const std::vector<LocalRole>& roles, size_t hosts);

// Makes the programs' archive when a host lacks them, once, and tells the user. Borrows `options`.
NodeLink::Bundle BundleFor(const LocalOptions& options);

// Threads for each trainer, so that no host has more of them than cores. `cores`: by host.
int ThreadsOf(const std::vector<LocalRole>& roles, const std::vector<size_t>& host_of_role,
              const std::vector<int>& cores);

// Runs it to its end and returns the exit code. Fails, with nothing left running, when a host or
// the job's directory cannot be used.
absl::StatusOr<int> RunOnHosts(const HostsRun& run, const LocalOptions& options);

// Follows the job that runs there without a launcher, or tells how it has ended meanwhile and
// brings what it has left. `cancel`: ends it as Ctrl-C does. Exit codes as RunJobRoles'; 1 also for
// a job that has failed. Fails when a host cannot be reached or somebody else follows the job.
absl::StatusOr<int> AttachToHosts(const HostsRun& run, const LocalOptions& options, bool cancel);

// Of a job that has ended without a launcher and has no other hosts than its master's, the first,
// any more: tells how, and brings what it has left. Fails as above, and when it goes on.
absl::StatusOr<int> FetchFromMaster(const HostsRun& run, const LocalOptions& options);

}  // namespace muster::cluster
