// `launch image bake`: has one machine of a job file made, brings it what jobs need there (this
// build's programs, the driver where the job file asks for it), and keeps it as an image that later
// jobs name.
//
// Called as RunOnProvider is. The machine goes on every way out; what a kill leaves `launch gc`
// finds, but for an image that is finished or about to be.
#pragma once

#include <cstdint>
#include <string>

#include "cluster/local.h"
#include "cluster/plan.h"
#include "configs/job.pb.h"
#include "configs/tiers.h"

namespace muster::cluster {

struct ImageBake {
  const Cluster& cluster;  // with a provider that RentsByType
  const Plan& plan;
  std::string image;                          // its name: letters, digits and '-'
  Role role = Role::kWorker;                  // whose machine is made; one of the plan
  int64_t max_wait_s = 0, oldest_driver = 0;  // as ProviderRun has them, as are the following
  bool yes = false, dry_run = false;
  std::string build_id, folder, facts, owner;
};

// Exit code 0, or 2 after one line; 130 when interrupted.
int BakeImage(const ImageBake& bake, const LocalOptions& options);

}  // namespace muster::cluster
