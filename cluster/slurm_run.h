// SLURM: runs a job on nodes that Slurm gives it, and gives them back.
//
// Called as RunLocal is.
#pragma once

#include <functional>
#include <string>

#include "cluster/local.h"
#include "cluster/plan.h"
#include "configs/job.pb.h"

namespace muster::cluster {

// `make_job`: as HostsRun has it. `build_id`: of this program. Exit codes as RunLocal's; 2 also
// when Slurm refuses the job. A job that is queued or runs under the same name is left alone.
int RunOnSlurm(const Slurm& slurm, const Plan& plan, int64_t max_wait_s,
               const std::function<LocalJob(int threads)>& make_job, const LocalOptions& options,
               const std::string& build_id);

}  // namespace muster::cluster
