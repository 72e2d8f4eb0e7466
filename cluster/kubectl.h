// The user's own kubectl: its words, and what its complaints mean.
//
// Pure functions: thread-safe.
#pragma once

#include <string>
#include <vector>

#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

// kubectl with context and namespace, and `more`.
std::vector<std::string> KubectlWords(const Kubernetes& kubernetes,
                                      const std::vector<std::string>& more);

// What a failure of kubectl means, from its stderr: one line with what to do. Unavailable for what
// may pass by itself (no answer), OutOfRange for a quota, Unauthenticated, PermissionDenied,
// NotFound, otherwise FailedPrecondition.
absl::Status ExplainKubectl(const std::string& complaint);

}  // namespace muster::cluster
