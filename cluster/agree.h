// Asks the user before something costs, or is gone for good.
#pragma once

#include <string>

#include "cluster/node_set.h"
#include "cluster/signals.h"
#include "telemetry/status.h"

namespace muster::cluster {

// What is about to be done: "start", "starting", "started".
struct Deed {
  const char *verb, *doing, *done;
};
inline constexpr Deed kStart{"start", "starting", "started"};
inline constexpr Deed kDelete{"delete", "deleting", "deleted"};

// `what`: "2 machines at $0.38 an hour". `yes`: the user has agreed on the command line, so it is
// only told. Cancelled when the user says no, or interrupts; fails where nobody can be asked.
absl::Status Agree(const std::string& what, bool yes, const Signals& signals, const Say& say,
                   const Deed& deed = kStart);

}  // namespace muster::cluster
