// RentedMachine: what a provider has for a machine that a job file asks for.
//
// Value types; pure functions over the catalogue: thread-safe. Memory in GB.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "configs/catalog.h"
#include "configs/job.pb.h"
#include "configs/tiers.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct MachineNeed {
  std::string type;  // as the job file names it
  int vcpus = 0;
  double memory_gb = 0;
  std::string accelerator;  // "" for none
  int64_t accelerators = 0;
};

struct RentedMachine {
  std::string type;  // as the provider calls it: "g6.xlarge"
  int vcpus = 0;
  double memory_gb = 0;
  std::string accelerator;  // of the catalogue: "NVIDIA_TESLA_T4"; "" for none
  int64_t accelerators = 0;
  std::optional<Price> price;  // with its accelerators
};

// A type of the catalogue, with what is built in.
RentedMachine AsItIs(const MachineType& type);

// Whether `provider` rents machines by type, so that FindRented may be asked.
bool RentsByType(Cluster::Provider provider);

// Whether the machines of a role are spot: the workers' of strategy LOW_COST. The master's holds
// the checkpoints, the servers' the parameters.
bool IsSpot(const Job& job, Role role);

// What the plan says of its prices: "EC2 on demand"; and the region that the catalogue's are of:
// "us-east-1". PRECONDITION: RentsByType.
const char* PricesOf(Cluster::Provider provider);
const char* PricedRegionOf(Cluster::Provider provider);
// The regions that the job file allows, in the order in which they are tried; none: the login's
// own. PRECONDITION: RentsByType.
std::vector<std::string> RegionsOf(const Cluster& cluster);
// What a machine costs on demand, by region, where the catalogue knows it.
// PRECONDITION: RentsByType.
std::map<std::string, Price> PricesByRegion(Cluster::Provider provider,
                                            const RentedMachine& machine, const Catalog& catalog);
// "EC2's such as c6i.4xlarge": types that a user may write. PRECONDITION: RentsByType.
const char* ExampleTypeOf(Cluster::Provider provider);

// The machine of a role. Fails when the provider has none of its size.
// PRECONDITION: RentsByType, and the role's machine type is one of the catalogue.
absl::StatusOr<RentedMachine> FindRented(Cluster::Provider provider, const TrainingInput& input,
                                         Role role, const Catalog& catalog);

}  // namespace muster::cluster
