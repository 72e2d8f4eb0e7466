// RegionPrices: what machine types cost on demand, region by region, as a provider has told it less
// than a day ago.
//
// Values and free functions over files: thread-safe. Prices in US dollars per hour, times Unix
// milliseconds.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "cluster/day_folder.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct RegionPrice {
  std::string type;  // as the provider calls it: "g6.xlarge"
  std::string region;
  double usd_per_hour = 0;
  bool operator==(const RegionPrice&) const = default;
};

struct RegionPrices {
  std::vector<RegionPrice> prices;
  int64_t asked_ms = 0;  // the earliest of them
};

// What the folder has of all types. NotFound when one is missing, or does not read.
absl::StatusOr<RegionPrices> FindRegionPrices(const DayFolder& folder,
                                              const std::set<std::string>& types, int64_t now_ms);
// Keeps what was told of the types, also that there is none. Fails when it cannot be written.
absl::Status KeepRegionPrices(const DayFolder& folder, const std::set<std::string>& types,
                              const RegionPrices& prices);

}  // namespace muster::cluster
