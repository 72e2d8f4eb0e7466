// The command line of `launch cost`: what a job's rented machines have cost. A free function:
// thread-safe.
#pragma once

#include <string>

#include "cluster/command.h"

namespace muster::cluster {

// launch cost JOB. `registry`: the folder of cluster/job_registry.h. Asks no cloud. Exit code 2,
// after one line on context.err, for words that make no sense and bills that do not read.
int RunCostCommand(const CommandContext& context, const std::string& registry);

}  // namespace muster::cluster
