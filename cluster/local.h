// Local provider: runs all roles of a job as processes of this machine, follows them to the end,
// and leaves nothing behind.
//
// RunLocal is called by the launcher's main thread, before that process has started any other
// thread. It takes SIGINT, SIGTERM and SIGHUP for itself while it runs.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/bill.h"
#include "cluster/follower.h"
#include "cluster/idle_watch.h"
#include "cluster/tf_config.h"
#include "kernels/gpu.h"
#include "master/report.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct LocalRole {
  std::string role;  // "master", "chief", "worker", "ps"
  int index = 0;
  std::string program;   // in the folder of programs: "worker"
  int threads = 1;       // OMP_NUM_THREADS
  std::string sized_by;  // the config field that asked for it
  int first_core = -1;   // servers: of those that belong to their shards; -1: none does
  std::optional<GpuClaim> gpus = {};        // of trainers, on the machine that they share
  std::vector<std::string> arguments = {};  // "--device=AUTO", "--ports=30000-30099" …
};

// A job, resolved down to values; local_roles.h makes one from a Job.
struct LocalJob {
  std::string job_id;
  std::string job_dir;
  std::string provider;          // "LOCAL", for the registry
  std::string job_yaml;          // the resolved job as a file: job.yaml of the directory
  std::vector<LocalRole> roles;  // the master first
  int64_t total_steps = 0;
  bool shared_memory = true;  // false: tensors travel over gRPC on this machine too
  int64_t start_timeout_ms = 60'000;
  int64_t max_running_ms = 0;         // 0: no limit
  bool stays = false;                 // goes on when its launcher is gone without a word
  double dollars_per_hour = 0;        // by the catalogue; 0: not known
  std::shared_ptr<const Rent> rent;   // null: nothing is rented
  IdleLimit idle;                     // after which it is ended
  std::vector<std::string> data;      // folders that flags of the module name
  TfCluster tf;                       // the address is filled in
  std::vector<master::PlanRow> plan;  // for the report
  std::vector<std::pair<std::string, std::string>> settings, substitutions;
};

struct LocalOptions {
  std::string program_dir;  // where master, worker and ps lie
  std::vector<std::string>
      environment;                     // of the launcher: "NAME=value"; roles get it with additions
  std::string term;                    // the value of TERM; "": no live display
  int64_t plain_interval_ms = 10'000;  // between lines where there is no terminal
  int in_fd = 0, out_fd = 1, err_fd = 2;
  bool async = false;       // leave once the job trains; only of a provider where that can be
  std::string registry;     // folder of cluster/job_registry.h; "": the job is not noted
  std::string data_folder;  // where data is brought to (worker/data_folder.h); "": nowhere
};

// Prints a line for the user; nothing when nobody reads any more.
void Tell(const LocalOptions& options, const std::string& line);

// The exit code that `code` is, or 2 after its reason as one line for people.
int ExitCodeOf(const absl::StatusOr<int>& code, const LocalOptions& options);

// Runs the job in its directory, resuming what lies there (the master's doing). Returns the
// program's exit code: 0 the job succeeded, 1 it failed or reached its running time, 2 the
// directory cannot be used (held by another run, not writable …), 130 it was interrupted. All roles
// have ended when it returns.
int RunLocal(const LocalJob& job, const LocalOptions& options);

}  // namespace muster::cluster
