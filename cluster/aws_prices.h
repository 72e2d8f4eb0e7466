// What EC2's machines cost on demand, as AWS's price list tells it through `aws`.
//
// Pure functions: thread-safe.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "cluster/region_prices.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

// One question for all types in all regions.
std::vector<std::string> OnDemandPriceWords(const Aws& aws, const std::set<std::string>& types);

// Fails on what is no price list; products without a price are left out.
absl::StatusOr<std::vector<RegionPrice>> ParseOnDemandPrices(const std::string& text);

}  // namespace muster::cluster
