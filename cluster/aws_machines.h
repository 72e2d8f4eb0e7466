// Which EC2 type stands for a machine that a job file asks for.
//
//   an EC2 type          itself
//   CPUs alone           the cheapest with at least its vCPUs and memory
//   with GPUs            the same, with at least as many GPUs of what stands for its accelerator:
//   EC2 has no
//                        K80, P4 and P100 any more, and this build's CUDA none for V100
//
// Pure functions over the catalogue: thread-safe.
#pragma once

#include <map>
#include <string>

#include "cluster/rented_machine.h"
#include "configs/catalog.h"
#include "telemetry/status.h"

namespace muster::cluster {

// Fails with what there is none of.
absl::StatusOr<RentedMachine> Ec2TypeFor(const MachineNeed& need, const Catalog& catalog);

// What it costs on demand, by region; the catalogue knows us-east-1's alone.
std::map<std::string, Price> Ec2Prices(const RentedMachine& machine, const Catalog& catalog);

// "us-east-1a" is in us-east-1; local zones, "us-west-2-lax-1a", in us-west-2.
std::string Ec2RegionOf(const std::string& zone);

// The name of the service quota, in vCPUs, that machines of a type count in, and its code:
// L-1216C47A, L-DB2E81BA, …
struct Ec2Quota {
  const char* code = "";
  const char* name = "";
};
Ec2Quota Ec2QuotaOf(const std::string& type, bool spot);

}  // namespace muster::cluster
