// Asks the user before something costs.
#pragma once

#include <string>

#include "cluster/node_set.h"
#include "cluster/signals.h"
#include "telemetry/status.h"

namespace muster::cluster {

// `what`: "2 machines at $0.38 an hour". `yes`: the user has agreed on the command line, so it is
// only told. Cancelled when the user says no, or interrupts; fails where nobody can be asked.
absl::Status Agree(const std::string& what, bool yes, const Signals& signals, const Say& say);

}  // namespace muster::cluster
