// Machines that are stopped after their job, as cluster.afterJob asks, so that their disks stay:
// they cost until somebody deletes them, and the journal, which stays too, says so.
//
// For the launcher's main thread.
#pragma once

#include <string>

#include "cluster/journal.h"
#include "cluster/node_set.h"
#include "cluster/provider.h"
#include "telemetry/status.h"

namespace muster::cluster {

// Stops all machines of the journal's job, and looks until none runs; spot machines go. `disks`:
// what their disks cost, in words (DisksText). Fails when some still run after five minutes: then
// they are as they were, and somebody's to give back.
absl::Status StopMachines(Provider& provider, MachineJournal& journal, const std::string& disks,
                          const Patience& patience);

// "its machines are stopped since …, and their disks cost: …: launch gc --stopped JOB deletes
// them". PRECONDITION: journal.stopped_ms() != 0.
std::string StoppedText(const MachineJournal& journal);

}  // namespace muster::cluster
