// The key that one launch's machines let in, and what ssh needs to use it: made by ssh-keygen
// beside the job's journal, so that nobody's own key travels anywhere.
//
//   <folder>/<job-id>.key  .key.pub  .ssh_config  .known_hosts
//
// Free functions, for the launcher's main thread.
#pragma once

#include <string>

#include "cluster/provider.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct MachineKey {
  std::string public_key;  // one line
  Ssh ssh;                 // identity and configuration file; a host's key is kept when first seen
};

// Replaces what is there. Makes the folder.
absl::StatusOr<MachineKey> MakeMachineKey(const std::string& folder, const std::string& job_id,
                                          const ToolRunner& tools);

// The one that is there. Fails when it is not.
absl::StatusOr<MachineKey> FindMachineKey(const std::string& folder, const std::string& job_id);

// Removes it all, and the run's keys (cluster/run_keys.h); OK when there is nothing.
void RemoveMachineKey(const std::string& folder, const std::string& job_id);

}  // namespace muster::cluster
