// Waits until machines that have just begun can be reached: sshd and the first script take their
// time.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/hosts_run.h"
#include "cluster/node_set.h"
#include "telemetry/status.h"

namespace muster::cluster {

// Runs `true` on all hosts at once, again and again where it fails, in place of the last of their
// words. Fails with what the last try on one of them said when that is not enough after
// `timeout_ms`; Cancelled when the user interrupted.
absl::Status AwaitHosts(const std::vector<RunHost>& hosts, int64_t timeout_ms,
                        const Patience& patience);

}  // namespace muster::cluster
