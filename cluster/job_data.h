// How the data that a job's module reads comes to this machine when it lies in an object store,
// through the user's own aws or gcloud.
//
// Called by the launcher's main thread.
#pragma once

#include <string>
#include <vector>

#include "cluster/bucket.h"
#include "telemetry/status.h"

namespace muster::cluster {

// Makes the folder below `root` that stands for `address` here (worker/data_folder.h) what the
// store has, and returns it. Says how far it is. Fails with what the store says, and where nothing
// is at the address.
absl::StatusOr<std::string> BringData(const std::string& address, const std::string& root,
                                      const ToolRunner& tools, const Patience& patience,
                                      const Say& say);

// The same for those of `data` that are addresses.
absl::Status BringAllData(const std::vector<std::string>& data, const std::string& root,
                          const ToolRunner& tools, const Patience& patience, const Say& say);

}  // namespace muster::cluster
