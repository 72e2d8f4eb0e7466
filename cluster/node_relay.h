// What `launch node` does on a host: finds the keeper of the job that a launcher names over its
// standard input, or starts one, and carries bytes between both until one of them is gone.
//
// Called by the process's main thread, before there are others. See cluster/keeper.h and
// cluster/node.proto.
#pragma once

#include "cluster/keeper_process.h"

namespace muster::cluster {

// Serves until the launcher closes its end or the keeper does. Returns the exit code: 0, or 2 when
// the launcher is not to be understood.
int ServeNode(const NodeOptions& options);

}  // namespace muster::cluster
