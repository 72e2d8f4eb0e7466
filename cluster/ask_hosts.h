// Asks hosts that are reached by a command of the launcher's for something short, all at once.
//
// Called by the launcher's main thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cluster/hosts_run.h"
#include "cluster/node_set.h"
#include "cluster/tool.h"
#include "telemetry/status.h"

namespace muster::cluster {

// What `script`, a line of sh, said on each host, in place of the last word of the way there; ssh's
// own code is 255. Fails with DeadlineExceeded, and the name of a host that has not answered by
// then, or Cancelled when the user interrupted; what has not ended is killed here, not there.
absl::StatusOr<std::vector<ToolResult>> AskHosts(const std::vector<RunHost>& hosts,
                                                 const std::string& script, int64_t timeout_ms,
                                                 const Patience& patience);

}  // namespace muster::cluster
