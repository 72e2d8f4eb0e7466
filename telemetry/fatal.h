// Fatal: ends the process where the outside leaves nothing to go on with and no caller could do
// better: a device without memory for a model's activations, or one that fails amid a step.
//
// Everything else that the outside can cause is returned as an absl::Status; a bug of ours is a
// CHECK (check.h). Thread-safe.
#pragma once

#include <absl/status/status.h>

namespace muster {

// Prints "error: <what it says>" to stderr, which is a role's log, and ends the process with exit
// status 1, without destructors: other threads go on meanwhile.
[[noreturn]] void Fatal(const absl::Status& status);

}  // namespace muster
