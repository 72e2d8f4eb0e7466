// The command line of `launch jobs`. Free functions: thread-safe.
#pragma once

#include <string>

#include "cluster/attach_command.h"
#include "cluster/command.h"
#include "cluster/job_queue.h"

namespace muster::cluster {

// launch jobs list | describe JOB | logs JOB [-f] [--role R] | cancel JOB. `registry`: the folder
// of cluster/job_registry.h. `machines`: that of cluster/journal.h. `queue`: of jobs that wait.
// `attach`: the way to a job that nobody here follows. Exit code 2, after one line on context.err,
// for words that make no sense and jobs that are not known; 1 where there is nothing to cancel.
int RunJobsCommand(const CommandContext& context, const std::string& registry,
                   const std::string& machines, const JobQueue& queue, const AttachToJob& attach);

}  // namespace muster::cluster
