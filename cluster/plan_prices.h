// Has a plan reckon with what the provider's machines cost now: on demand in each region, and spot
// machines of late, as a folder has kept it or the provider tells.
//
// Called by the launcher's main thread.
#pragma once

#include <string>
#include <vector>

#include "cluster/plan.h"
#include "configs/job.pb.h"

namespace muster::cluster {

struct PlanPricing {
  const Job& job;       // resolved
  bool may_ask = true;  // the provider, for some seconds; else what the folder has is all
  std::string folder;   // ~/.muster/prices; "": nothing is kept
  std::vector<std::string> environment;  // of the launcher
};

// Nothing where no machines are rented by type. What is not known is said in the plan.
void PricePlan(const PlanPricing& pricing, Plan* plan);

}  // namespace muster::cluster
