// The command line of `launch ssh`. Free functions: thread-safe.
#pragma once

#include <string>
#include <vector>

#include "cluster/command.h"

namespace muster::cluster {

// launch ssh JOB ROLE [-L FORWARD]... [-- COMMAND...]: becomes the user's ssh to the host of a
// job's role, with the options of the job file. `registry`: the folder of cluster/job_registry.h;
// `environment`: of ssh. Returns only where that cannot be: exit code 2, after one line on
// context.err.
int RunSshCommand(const CommandContext& context, const std::string& registry,
                  const std::vector<std::string>& environment);

}  // namespace muster::cluster
