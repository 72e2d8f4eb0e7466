// What the roles of a run prove by that they belong to it. A job that was left on rented machines
// has it kept beside its journal, so that a launcher which follows the job can start a lost worker
// on another machine.
//
//   <folder>/<job-id>.run_keys   in a folder that only this user can look into; goes with the
//                                machines' key (cluster/machine_key.h)
//
// A value, and free functions: thread-safe.
#pragma once

#include <map>
#include <string>

#include "telemetry/status.h"

namespace muster::cluster {

struct RunKeys {
  std::string token;                              // of the whole run
  std::map<std::string, std::string> identities;  // by role ("worker-1"): rpc::EncodeIdentity
};

// Replaces what is there. Only workers' identities are kept: no other role is started again.
// PRECONDITION: only this user can look into the folder.
absl::Status KeepRunKeys(const std::string& folder, const std::string& job_id, const RunKeys& keys);

// NotFound where there are none; DataLoss where they do not read.
absl::StatusOr<RunKeys> FindRunKeys(const std::string& folder, const std::string& job_id);

// OK when there are none.
void RemoveRunKeys(const std::string& folder, const std::string& job_id);

}  // namespace muster::cluster
