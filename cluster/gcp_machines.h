// Which machine of Compute Engine stands for one that a job file asks for.
//
//   a type of it, and a legacy type (its shape)    itself
//   EC2's                                          the cheapest with at least its vCPUs and memory
//   with K80, P4, P100 or T4                       the same with T4s: 1, 2 or 4, the least that is
//   enough with V100 or L4, or more GPUs than four        the cheapest g2 with at least as many L4s
//
// Compute Engine has no K80 any more, and this build's CUDA computes on none before Turing.
//
// Pure functions over the catalogue: thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "cluster/rented_machine.h"
#include "configs/catalog.h"
#include "telemetry/status.h"

namespace muster::cluster {

// Fails with what there is none of.
absl::StatusOr<RentedMachine> GceTypeFor(const MachineNeed& need, const Catalog& catalog);

// What it costs on demand, by region, where the catalogue knows it.
std::map<std::string, Price> GcePrices(const RentedMachine& machine, const Catalog& catalog);

// "us-central1-a" is in us-central1.
std::string GceRegionOf(const std::string& zone);

// Whether GPUs are attached to machines of this type; others have theirs built in.
bool TakesAccelerators(const std::string& type);

// As gcloud calls an accelerator: "nvidia-tesla-t4".
std::string GceAccelerator(const std::string& accelerator);
// The regional quota that it counts in: "NVIDIA_T4_GPUS".
std::string GceGpuQuota(const std::string& accelerator);

}  // namespace muster::cluster
