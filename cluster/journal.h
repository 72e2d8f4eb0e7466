// MachineJournal: what a launcher asks a provider for, on this machine's disk before it asks, so
// that whatever happens to the launcher somebody can find out where to look and give it back.
//
//   <folder>/<job-id>.jsonl   the first line says whose job on which provider; then a line for each
//                             thing that is about to be asked for, and for each time that the job
//                             is left to go on without a launcher, and when its machines are
//                             stopped
//
// Held by flock while its launcher lives; the file is gone once all machines are. Owned by one
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct JournalHead {
  std::string job_id;
  std::string run;      // of this launch alone: names what is asked for
  std::string job_dir;  // absolute
  std::string owner;    // "user@host"
  Cluster cluster;      // of the job file: which provider, where
};

class MachineJournal {
 public:
  // Makes it, and the folder. Fails with AlreadyExists when there is one: a launcher lives, or has
  // left machines.
  static absl::StatusOr<std::unique_ptr<MachineJournal>> Begin(const std::string& folder,
                                                               const JournalHead& head,
                                                               int64_t now_ms);
  // Takes over one that nobody holds. Fails with NotFound when there is none, with
  // FailedPrecondition when its launcher lives, with DataLoss when it does not read.
  static absl::StatusOr<std::unique_ptr<MachineJournal>> TakeOver(const std::string& folder,
                                                                  const std::string& job_id);
  // The jobs that have one, sorted.
  static std::vector<std::string> Jobs(const std::string& folder);

  ~MachineJournal();
  MachineJournal(const MachineJournal&) = delete;
  MachineJournal& operator=(const MachineJournal&) = delete;

  const JournalHead& head() const { return head_; }
  // When something was last asked for (Unix time); 0: nothing was; 1: a line does not tell.
  int64_t asked_ms() const { return asked_ms_; }
  // Until when the job was left to itself (Unix time); 0: it was not.
  int64_t left_until_ms() const { return left_until_ms_; }
  // Since when its machines are stopped, as was asked, with their disks (Unix time); 0: they are
  // not. And what the disks cost, in words.
  int64_t stopped_ms() const { return stopped_ms_; }
  const std::string& disks() const { return disks_; }

  // A side process has asked for something and noted it here. `now_ms`: this moment.
  void NoteAsked(int64_t now_ms) { asked_ms_ = now_ms; }
  // What side processes need of it.
  int fd() const { return fd_; }

  // On disk when it returns OK. `name`: what is about to be asked for.
  absl::Status Asking(const std::string& name, int64_t now_ms);
  // The same for a job that is about to be left.
  absl::Status Leaving(int64_t until_ms);
  // The same for machines that are about to be stopped.
  absl::Status Stopping(int64_t now_ms, const std::string& disks);
  // Nothing is left: removes the file. PRECONDITION: so it is.
  absl::Status Close();

 private:
  MachineJournal(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  absl::Status Append(const std::string& line);

  const std::string path_;
  const int fd_;
  JournalHead head_;
  int64_t asked_ms_ = 0, left_until_ms_ = 0, stopped_ms_ = 0;
  std::string disks_;
};

}  // namespace muster::cluster
