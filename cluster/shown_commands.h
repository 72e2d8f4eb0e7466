// --dry-run: a ToolRunner that prints what it is asked for, as a shell would take it, and asks
// nobody.
#pragma once

#include "cluster/node_set.h"
#include "cluster/provider.h"

namespace muster::cluster {

// Fails with Unimplemented each time (cluster/provider.h).
ToolRunner ShownCommands(Say say);

}  // namespace muster::cluster
