// RentedMachine: what a provider has for a machine that a job file asks for.
//
// Value types; pure functions over the catalogue: thread-safe. Memory in GB.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

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

// What the plan says of where its prices are from: "EC2 on demand, us-east-1".
// PRECONDITION: RentsByType.
const char* PricesOf(Cluster::Provider provider);
// "EC2's such as c6i.4xlarge": types that a user may write. PRECONDITION: RentsByType.
const char* ExampleTypeOf(Cluster::Provider provider);

// The machine of a role. Fails when the provider has none of its size.
// PRECONDITION: RentsByType, and the role's machine type is one of the catalogue.
absl::StatusOr<RentedMachine> FindRented(Cluster::Provider provider, const TrainingInput& input,
                                         Role role, const Catalog& catalog);

}  // namespace muster::cluster
