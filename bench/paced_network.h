// A network of processes on this machine in which every process has a link of its own, 200 Mbit/s
// in each direction (a token bucket at both ends of a veth pair), to one switch (a bridge).
//
// Nothing of it has a name and nothing is left behind, however the program ends: the network
// namespaces belong to the processes alone, which die with their parent, and the kernel removes
// their links and the bridge with them.
//
// Free functions of single-threaded processes. They need root, and iproute2's `ip` and `tc`.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "telemetry/status.h"

namespace muster::bench {

// Moves the calling process into a network namespace of its own, which holds nothing; it dies with
// its parent. Fails with FailedPrecondition where that is not allowed. PRECONDITION: it has one
// thread.
absl::Status EnterOwnNetwork();

// For the switch, in its own network: gives each process of `ends`, which are in theirs, a link to
// it. Fails where `ip` or `tc` does.
absl::Status ConnectToSwitch(const std::vector<pid_t>& ends);

// For the i-th of `ends`: takes its address and paces what it sends. Fails as above.
absl::Status JoinNetwork(int i);
// Its address.
std::string PacedAddress(int i);

}  // namespace muster::bench
