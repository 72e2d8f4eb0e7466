// The process of a keeper (cluster/keeper.h): one of a session of its own, or the one that calls.
//
// Called by a process's only thread.
#pragma once

#include <string>

#include "cluster/keeper.h"
#include "telemetry/status.h"

namespace muster::cluster {

// Makes a process that listens as `name`, unless one does already.
absl::Status StartKeeper(const NodeOptions& options, const std::string& name);

// Is the keeper of the job in `directory`, which may begin with "~/", on the host of this `place`,
// and begins with it; until it has ended. Returns the exit code: 0, or 1 after a line on stderr.
int ServeKeeper(const NodeOptions& options, const std::string& directory, int place);

// `directory` with "~/" resolved. Fails when it is no absolute path.
absl::StatusOr<std::string> AbsoluteOn(const NodeOptions& options, const std::string& directory);

}  // namespace muster::cluster
