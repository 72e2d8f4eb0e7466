// A job of provider LOCAL that can be left: its roles belong to a keeper on this machine
// (cluster/keeper.h), reached as one of another host is.
//
// Called as RunLocal is.
#pragma once

#include <string>

#include "cluster/local.h"

namespace muster::cluster {

// Runs it, and leaves it where options.async says so. `build_id`: of this program. Exit codes as
// RunLocal's.
int RunKept(const LocalJob& job, const LocalOptions& options, const std::string& build_id);

// Follows it again, or ends it as Ctrl-C does (AttachToHosts).
int AttachToKept(const LocalJob& job, const LocalOptions& options, const std::string& build_id,
                 bool cancel);

}  // namespace muster::cluster
