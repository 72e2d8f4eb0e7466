// EndRecord: why a job that nobody follows has ended, as far as its master's host sees it, and the
// last record of it where the master has not written one.
//
// Owned by one thread. Times are Unix milliseconds.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "cluster/process.h"
#include "master/status_line.h"
#include "telemetry/status.h"

namespace muster::cluster {

class EndRecord {
 public:
  // The master says what became of a worker.
  void OnReplica(const master::ReplicaLine& line);
  // A role has ended. Whether the job goes on without it, unless the master says otherwise: a
  // worker that was killed, has left, or is lost.
  bool OnExit(const std::string& role, const ExitStatus& status);
  // The job is ended from here, for this reason.
  void Stop(const std::string& reason);

  bool stopped() const { return stopped_; }
  // Why it ends; "" when that is not known.
  const std::string& reason() const { return reason_; }

  // Writes the last state.json of the job in `directory`, unless the master has. The reason that it
  // then holds; "" when nothing was written.
  absl::StatusOr<std::string> Write(const std::string& directory, int64_t now_ms) const;

 private:
  std::set<std::string> gone_;  // workers that have left or are lost
  std::string reason_;
  bool stopped_ = false;
};

}  // namespace muster::cluster
