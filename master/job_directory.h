// JobDirectory: the paths of a job's directory, its lock and its checkpoints.
//
//   <job-dir>/job.yaml  state.json  lock  report.html  trace.json
//             logs/  checkpoints/step-N/  summaries/  export/
//
// JobDirectory is a value type, thread-compatible; the free functions work on the disk and keep
// nothing. JobLock is owned by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "master/manifest.h"
#include "telemetry/status.h"

namespace muster::master {

// Names only: touches no disk. Every role makes one from --job-dir.
class JobDirectory {
 public:
  explicit JobDirectory(std::string root) : root_(std::move(root)) {}

  const std::string& root() const { return root_; }
  std::string job_yaml() const { return root_ + "/job.yaml"; }
  std::string state_json() const { return root_ + "/state.json"; }
  std::string lock() const { return root_ + "/lock"; }
  std::string report_html() const { return root_ + "/report.html"; }
  std::string trace_json() const { return root_ + "/trace.json"; }
  std::string trace_parts() const { return root_ + "/trace"; }  // gone once they are joined
  std::string logs() const { return root_ + "/logs"; }
  std::string log(const std::string& role, int index) const;  // logs/worker-2.log
  std::string checkpoints() const { return root_ + "/checkpoints"; }
  std::string checkpoint(int64_t step) const;  // checkpoints/step-400
  std::string summaries() const { return root_ + "/summaries"; }
  std::string history() const { return root_ + "/summaries/history.jsonl"; }
  std::string export_dir() const { return root_ + "/export"; }

 private:
  std::string root_;
};

// Makes the directory and its folders; what is there stays. Fails when a part is a file, cannot be
// made, or is not writable.
absl::Status CreateJobDirectory(const JobDirectory& dir);

// Holds <job-dir>/lock by flock while it lives. The kernel frees it when the last process that has
// the descriptor is gone, however it died, so a lock is never stale. The file tells pid, host and
// since when.
class JobLock {
 public:
  // Fails with FailedPrecondition, naming who holds it and since when, when somebody does.
  // PRECONDITION: CreateJobDirectory succeeded.
  static absl::StatusOr<std::unique_ptr<JobLock>> Take(const JobDirectory& dir, int64_t now_ms);
  ~JobLock();
  JobLock(const JobLock&) = delete;
  JobLock& operator=(const JobLock&) = delete;

  // Close-on-exec. A child that inherits a duplicate keeps the lock until it is gone too: the
  // master does.
  int fd() const { return fd_; }

 private:
  explicit JobLock(int fd) : fd_(fd) {}
  const int fd_;
};

// A checkpoint that was committed: its manifest reads and its parts have the sizes it tells.
struct Checkpoint {
  int64_t step = 0;
  std::string directory;
  Manifest manifest;
  // Full paths.
  std::vector<std::string> part_files() const;      // for ps::Server::Restore
  std::vector<std::string> residual_files() const;  // by replica, for ps::RestoreResiduals; or none
};

// All valid checkpoints, by rising step. Those that are damaged are left out, one text each in
// `damaged` (if not null): "checkpoint D/checkpoints/step-400: ps-0.safetensors has 17 bytes
// instead of 4096". Folders without a manifest were never committed: left out silently. Fails only
// when the folder cannot be read; an absent one has none.
absl::StatusOr<std::vector<Checkpoint>> ListCheckpoints(const JobDirectory& dir,
                                                        std::vector<std::string>* damaged);

// The checkpoint to resume from: the newest valid one whose parts read and fit their checksums, all
// of which is looked at here. NotFound when there is no checkpoint at all (start from the
// beginning); DataLoss when there are only damaged ones, naming them. Damaged newer ones are told
// in `warnings`.
absl::StatusOr<Checkpoint> NewestCheckpoint(const JobDirectory& dir,
                                            std::vector<std::string>* warnings);

// The one with the highest metrics["validation_accuracy"] (the newest of equals), or null.
const Checkpoint* BestCheckpoint(const std::vector<Checkpoint>& checkpoints);

// Makes checkpoint `manifest.step` valid: checks that all parts are there with their sizes, fsyncs
// them, writes manifest.json last. The parts must lie in dir.checkpoint(step).
absl::Status CommitCheckpoint(const JobDirectory& dir, const Manifest& manifest);

// Removes all valid checkpoints but the `keep` newest and the best, and what was never committed
// and is older than the newest valid one. The manifest goes first, so that a crash in between
// leaves no half checkpoint that looks whole. Returns the steps removed.
absl::StatusOr<std::vector<int64_t>> PruneCheckpoints(const JobDirectory& dir, int keep);

}  // namespace muster::master
