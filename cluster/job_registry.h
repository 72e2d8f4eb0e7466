// JobRegistry: the jobs that this user's launchers have started from this machine, one file each in
// a folder that only the user can read: JOB.CHECKSUM.json, where the checksum is that of the job's
// directory.
//
// A value; the functions work on the disk and keep nothing: thread-safe. Files are replaced whole.
// Times are milliseconds since 1970.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "master/job_state.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct JobEntry {
  std::string job_id;
  std::string job_dir;   // absolute
  std::string provider;  // "LOCAL", "SSH" …; "" when not known
  int64_t began_ms = 0;  // of its last run
  bool stays = false;    // it goes on without its launcher
};

class JobRegistry {
 public:
  // `folder`: made by the first Write. "": nothing is kept.
  explicit JobRegistry(std::string folder) : folder_(std::move(folder)) {}

  // Adds the job, or replaces what was known of it.
  absl::Status Write(const JobEntry& entry) const;
  // All jobs, the newest first. What cannot be used is left out, one line each in `damaged`.
  std::vector<JobEntry> Read(std::vector<std::string>* damaged) const;
  // The job that `word` names: an id, a job directory, or how one id alone begins. Fails in one
  // line.
  absl::StatusOr<JobEntry> Find(const std::string& word) const;

 private:
  const std::string folder_;
};

// The regular file at `path`, which may be a stranger's: no more than `max_bytes`, never waits.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes);
// state.json of a job's directory, read so. NotFound when there is none.
absl::StatusOr<master::JobState> ReadStateOf(const std::string& job_dir);

}  // namespace muster::cluster
