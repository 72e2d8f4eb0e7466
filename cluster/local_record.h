// What the launcher itself leaves in a local job's directory: the first state.json, the last word
// when the master could not say it, and what is printed at the end. Free functions, thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/follower.h"
#include "cluster/local.h"
#include "master/job_directory.h"
#include "telemetry/status.h"

namespace muster::cluster {

// Notes the job in the user's registry, before anything of it is started. A registry that cannot be
// written never stops a job: a warning on options.err_fd.
void NoteJob(const LocalJob& job, const LocalOptions& options, bool stays, int64_t now_ms);

// Notes that it goes on without this launcher.
void NoteStays(const LocalJob& job, const LocalOptions& options);

// Writes job.yaml and state.json (PREPARING, all replicas EXPECTED). An earlier run's creation
// time, step and metrics are kept.
absl::Status WriteFirstRecord(const LocalJob& job, const master::JobDirectory& dir, int64_t now_ms);

// How a role's process went.
struct RoleEnd {
  std::string role;
  int index = 0;
  int64_t pid = 0;
  ExitStatus exit;
};

// Completes state.json after all roles have ended, and writes report.html when the master has not
// ended the job itself.
absl::Status WriteLastRecord(const LocalJob& job, const master::JobDirectory& dir,
                             const Follower& follower, const std::vector<RoleEnd>& ends,
                             int64_t now_ms);

// The lines that end a run which did not fail: accuracy, where everything lies, what to try next.
std::string Summary(const master::JobDirectory& dir, const Follower& follower, int64_t now_ms);

}  // namespace muster::cluster
