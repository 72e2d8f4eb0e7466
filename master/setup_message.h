// What the master tells its roles before they begin: how a server and a trainer are set up, and
// where the parameters live.
//
// Pure functions over values.
#pragma once

#include <vector>

#include "configs/job.pb.h"
#include "master/control.pb.h"
#include "master/job_directory.h"
#include "master/membership.h"
#include "master/run_start.h"

namespace muster::master {

// For one trainer, which computes `leases`.
MasterMessage TrainerSetupMessage(const Job& job, const RunStart& run, int replicas,
                                  const std::vector<int32_t>& leases, const JobDirectory& dir);

// The same for all servers: each finds its slices by its index.
MasterMessage ServerSetupMessage(const Job& job, const RunStart& run, int replicas, int servers,
                                 const JobDirectory& dir);

// For a trainer that is to compute `leases` until `target`. PRECONDITION: every server among
// `members` has told its params_address.
MasterMessage PlacementMessage(const RunStart& run, const std::vector<Member>& members,
                               const Leases& leases, const SetTarget& target);

}  // namespace muster::master
