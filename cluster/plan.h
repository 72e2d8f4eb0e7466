// Plan: what a resolved job will start and what it would cost, as values and as the text of `launch
// --check`.
//
// Value type; pure functions: thread-safe. Memory in GB, prices in US dollars per hour by the
// catalogue.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cluster/region_prices.h"
#include "cluster/resolve.h"
#include "cluster/spot_prices.h"
#include "configs/catalog.h"
#include "configs/job.pb.h"
#include "configs/tiers.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct PlanRole {
  Role role = Role::kMaster;
  int64_t count = 0;
  std::string machine_type;
  std::string rented_type;             // what the provider has for it; "": nothing is rented
  std::string image;                   // container that the job file names for it, or ""
  int vcpus = 0;                       // of one machine
  double memory_gb = 0;                // of one machine
  std::string accelerators;            // of one machine: "4 x NVIDIA_TESLA_K80"; "" for none
  std::string accelerator;             // "NVIDIA_TESLA_K80"; "" for none
  int64_t accelerator_count = 0;       // of one machine
  std::optional<double> usd_per_hour;  // of one machine with its accelerators; empty when not known
  bool spot = false;
  std::vector<SpotSummary> spot_prices;          // of one; usd_per_hour is the first's median then
  std::string spot_unknown;                      // why there are none
  std::optional<double> on_demand_usd_per_hour;  // the same machine otherwise
  std::map<std::string, double> usd_by_region;   // on demand, where it is known
};

struct Plan {
  std::vector<PlanRole> roles;  // the master first; roles of which there are none are left out
  int64_t replicas = 0;         // V: workers, and the chief unless training.chiefTrains is false
  bool chief_trains = true;
  bool one_process =
      false;  // coordinator, shards and trainer in one: BASIC, BASIC_GPU, a master alone
  int64_t processes = 0;               // on this machine
  int64_t steps = 0;                   // of the whole schedule
  int64_t global_batch = 0;            // samples per step: batchSize times replicas that it counts
  std::optional<double> usd_per_hour;  // of all machines; empty when one is not known
  std::string price_date;              // oldest of the prices used
  std::vector<std::string> regions;    // that are allowed, in the order in which they are tried
  std::string priced_region;   // of the prices on demand: the first of these, where it can be
  bool prices_told = false;    // by the provider, at price_date; else they are the catalogue's
  std::string prices_unknown;  // why it has not told them, where it was asked

  int64_t count(Role role) const;  // 0 when there is none
};

// REQUIRES: `job` is resolved: ResolveJob found no problem.
Plan MakePlan(const Job& job, const Catalog& catalog);

// Has the plan reckon with what spot machines have cost of late; where it is not known, what they
// cost on demand is the most.
void ReckonWithSpot(const absl::StatusOr<std::vector<SpotPrice>>& prices, Plan* plan);

// Has the plan reckon with what machines cost on demand in the first region that is allowed, as the
// provider tells it instead of the catalogue.
void ReckonWithOnDemand(const absl::StatusOr<RegionPrices>& prices, Plan* plan);

// What all machines of the plan cost an hour in a region: on demand, and spot machines what they
// have cost of late, where that is known. Empty when one is not known.
std::optional<double> CostIn(const Plan& plan, const std::string& region);

// What machines of that price can cost until the job is stopped: by its running time, or by its
// budget (0: none) before that.
double MostUsd(double usd_per_hour, double max_running_s, double budget);

// The plan as a table, with the settings that matter and what is done instead of what the file
// asks.
std::string FormatPlan(const ResolvedJob& resolved, const Plan& plan);

// One line on how the learning rate goes: "0.01 to 0.1 (linear) for 500 steps, then 0.1 for 9500".
std::string FormatSchedule(const Training& training);

}  // namespace muster::cluster
