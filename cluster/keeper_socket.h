// The socket between a host's keeper and those who come to it: a Unix socket in the abstract
// namespace, named after the job's folder and the host's place in the job. So there is one keeper
// at most for each, nothing has to be removed, and nothing is left whatever kills it. Both ends
// look at the other's user: others can find the name, and are refused.
//
// Free functions: thread-safe. Descriptors are the caller's, and close on exec.
#pragma once

#include <string>

#include "telemetry/status.h"

namespace muster::cluster {

// The name for `folder`, which is there, and the host's `place`. Fails when it cannot be looked at.
absl::StatusOr<std::string> KeeperName(const std::string& folder, int place);

// Listens. AlreadyExists when somebody does.
absl::StatusOr<int> ListenAsKeeper(const std::string& name);
// The next who has come, or -1: nobody, or a stranger. The descriptor does not block.
int AcceptOwn(int listener);

// NotFound when nobody listens; PermissionDenied when a stranger does.
absl::StatusOr<int> ConnectToKeeper(const std::string& name);

}  // namespace muster::cluster
