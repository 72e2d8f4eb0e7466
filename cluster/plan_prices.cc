#include "cluster/plan_prices.h"

#include <algorithm>
#include <iterator>
#include <memory>
#include <set>

#include "cluster/providers.h"
#include "cluster/region_prices.h"
#include "cluster/rented_machine.h"
#include "cluster/spot_prices.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

// For one question: who waits for a plan does not wait for a slow cloud.
constexpr int64_t kAskMs = 4'000;

// What the folder has of all types in all regions.
absl::StatusOr<std::vector<SpotPrice>> FindAll(const SpotPriceFolder& folder,
                                               const std::set<std::string>& types,
                                               const std::set<std::string>& regions,
                                               int64_t now_ms) {
  std::vector<SpotPrice> all;
  for (const std::string& region : regions) {
    for (const std::string& type : types) {
      ASSIGN_OR_RETURN(std::vector<SpotPrice> prices, folder.Find(type, region, now_ms));
      std::ranges::move(prices, std::back_inserter(all));
    }
  }
  return all;
}

void KeepAll(const SpotPriceFolder& folder, const std::set<std::string>& types,
             const std::set<std::string>& regions, const std::vector<SpotPrice>& all,
             int64_t now_ms) {
  for (const std::string& region : regions) {
    for (const std::string& type : types) {
      std::vector<SpotPrice> prices;
      std::ranges::copy_if(all, std::back_inserter(prices), [&](const SpotPrice& price) {
        return price.region == region && price.type == type;
      });
      // They are asked for again when they cannot be kept.
      folder.Keep(type, region, prices, now_ms).IgnoreError();
    }
  }
}

absl::StatusOr<RegionPrices> AskOnDemand(Provider& provider, const DayFolder& folder,
                                         const std::set<std::string>& types) {
  RegionPrices all{.asked_ms = UnixMillis()};
  ASSIGN_OR_RETURN(all.prices, provider.OnDemandPrices(types));
  // They are asked for again when they cannot be kept.
  KeepRegionPrices(folder, types, all).IgnoreError();
  return all;
}

}  // namespace

void PricePlan(const PlanPricing& pricing, Plan* plan) {
  if (!RentsByType(pricing.job.cluster().provider())) return;
  std::set<std::string> types, spot_types;
  for (const PlanRole& role : plan->roles) {
    types.insert(role.rented_type);
    if (role.spot) spot_types.insert(role.rented_type);
  }
  const Patience patience{.now_ms = UnixMillis, .pause = [](int64_t) { return false; }};
  const Tools tools = MakeTools(pricing.environment);
  const auto provider =
      MakeProvider({.cluster = pricing.job.cluster(),
                    .tools =
                        [&tools](const std::vector<std::string>& words, int64_t timeout_ms,
                                 const std::string& input) {
                          return tools.run(words, std::min(timeout_ms, kAskMs), input);
                        },
                    .patience = patience,
                    .shortcuts = {.begin = tools.begin}});
  std::set<std::string> regions;
  for (const Place& place : provider->Places()) regions.insert(place.region);
  if (regions.empty()) regions.emplace();  // not known before the provider is asked
  const SpotPriceFolder spot_folder(pricing.folder);
  const DayFolder folder(pricing.folder);
  auto on_demand = FindRegionPrices(folder, types, UnixMillis());
  auto spot = FindAll(spot_folder, spot_types, regions, UnixMillis());
  if (pricing.may_ask) {
    provider->BeginPrices(on_demand.ok() ? std::set<std::string>() : types,
                          spot.ok() ? std::set<std::string>() : spot_types);
    if (!on_demand.ok()) on_demand = AskOnDemand(*provider, folder, types);
    if (!spot.ok()) {
      spot = provider->SpotPrices(spot_types);
      if (spot.ok()) KeepAll(spot_folder, spot_types, regions, *spot, UnixMillis());
    }
  }
  ReckonWithOnDemand(on_demand, plan);
  if (!spot_types.empty()) ReckonWithSpot(spot, plan);
}

}  // namespace muster::cluster
