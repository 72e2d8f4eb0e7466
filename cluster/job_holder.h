// JobHolder: who runs a job, as the lock in its directory says (master/job_directory.h).
//
// A value, and a free function that is thread-safe. Looking holds the lock, shared, for a moment.
#pragma once

#include <sys/types.h>

#include <string>

#include "telemetry/status.h"

namespace muster::cluster {

struct JobHolder {
  bool held = false;
  // Who took it last; 0 and "" when the file does not say.
  pid_t pid = 0;
  std::string host;
  std::string text;  // "process 12 on host h since 2026-…", printable
};

// Nobody when there is no lock file. Fails when it cannot be opened.
absl::StatusOr<JobHolder> LookAtHolder(const std::string& job_dir);

// Sends `signal` to the process that holds the lock of `job_dir`. Fails when nobody does, or a
// process of another host, and when that process is no more and its roles are about to go.
absl::Status SignalHolder(const std::string& job_dir, int signal);

}  // namespace muster::cluster
