// Lifeline: a pipe whose writing end the launcher holds, so that a role ends when the launcher
// does, however that dies.
//
// The second guard beside the kernel's parent-death signal, which is lost when a role is started
// through another program. Role mains call StartLifeline first. Free functions, thread-safe.
#pragma once

#include <string>

#include "telemetry/status.h"

namespace muster::cluster {

// The number of the reading end in a role's process, as the launcher starts it.
inline constexpr int kLifelineFd = 4;
// The environment variable that tells a role the number; absent when it was started by hand.
inline constexpr const char* kLifelineVariable = "MUSTER_LIFELINE_FD";

// Watches the pipe `fd` (text of a number) on a thread of its own; at its end the process and its
// process group are killed. A null `fd` (not started by a launcher) does nothing. Fails when `fd`
// is no open pipe.
absl::Status StartLifeline(const char* fd);

}  // namespace muster::cluster
