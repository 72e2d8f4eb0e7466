// The command line of `launch attach`. Free functions: thread-safe.
#pragma once

#include <functional>
#include <string>

#include "cluster/command.h"
#include "cluster/job_queue.h"
#include "cluster/job_registry.h"
#include "configs/job.pb.h"

namespace muster::cluster {

// Follows a job whose roles run without a launcher, or ends it as Ctrl-C does. Returns the exit
// code.
using AttachToJob = std::function<int(const Job& job, bool cancel)>;

// The job as launch has written it into job.yaml of its directory, which may have come from
// elsewhere: its jobDir is `job_dir`. Fails in one line.
absl::StatusOr<Job> ReadJobOf(const std::string& job_dir);

// launch attach JOB. `registry`: the folder of cluster/job_registry.h. Exit code 2, after one line
// on context.err, for words that make no sense and jobs that cannot be followed.
int RunAttachCommand(const CommandContext& context, const std::string& registry,
                     const JobQueue& queue, const AttachToJob& attach);

// The same with a job that was found: reads job.yaml of its directory.
int Attach(const JobEntry& entry, const CommandContext& context, const AttachToJob& attach,
           bool cancel);

}  // namespace muster::cluster
