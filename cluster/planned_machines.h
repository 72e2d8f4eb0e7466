// What the plan says of a job's machines: what is asked for, what one costs, which have GPUs to
// compute on.
//
// Pure, but for the random name of a run.
#pragma once

#include <cstdint>
#include <string>

#include "cluster/plan.h"
#include "cluster/provider.h"
#include "configs/job.pb.h"

namespace muster::cluster {

// A machine for each planned role but evaluators, for the job `job_id` of `owner`: attempt 0, no
// place. The provider ends them half an hour after the job's own limit, which the job keeps itself.
MachineOrder OrderMachines(const Plan& plan, const Cluster& cluster, const std::string& job_id,
                           const std::string& owner, int64_t max_running_ms);

// "1 machine", "2 machines".
std::string CountMachines(int64_t machines);

// US dollars per hour of a machine of `role` in `region`; 0: not known, or nothing.
double PlannedPrice(const Plan& plan, const Cluster& cluster, Role role, const std::string& region);

// Whether the role trains, on a machine with GPUs.
bool ComputesOnGpus(const Plan& plan, Role role);

}  // namespace muster::cluster
