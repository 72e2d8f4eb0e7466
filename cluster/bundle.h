// The programs of this build as one tar archive, compressed by gzip, for hosts that do not have
// them. All of it lies in one folder of whatever name.
//
// Called by the launcher's main thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "telemetry/status.h"

namespace muster::cluster {

// bin/ and lib/ of an unpacked bundle when `program_dir` is its bin/, else what is in the archive
// of `./dev bundle` beside `program_dir`. NotFound, with what to do, when there is neither.
absl::StatusOr<std::shared_ptr<const std::string>> MakeBundle(
    const std::string& program_dir, const std::vector<std::string>& environment,
    const std::string& path_variable);

}  // namespace muster::cluster
