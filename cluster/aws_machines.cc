#include "cluster/aws_machines.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <cctype>
#include <string_view>
#include <utility>
#include <vector>

namespace muster::cluster {
namespace {

// What stands for an accelerator: at least as fast, and with as much memory. CUDA 13 computes on
// none before Turing.
constexpr std::pair<std::string_view, std::string_view> kStandIns[] = {
    {"NVIDIA_TESLA_K80", "NVIDIA_TESLA_T4"},
    {"NVIDIA_TESLA_P4", "NVIDIA_TESLA_T4"},
    {"NVIDIA_TESLA_P100", "NVIDIA_A10G"},
    {"NVIDIA_TESLA_V100", "NVIDIA_A10G"},
    {"NVIDIA_L4", "NVIDIA_A10G"},  // in more sizes; EC2's own L4s are asked for by type
};

std::string_view StandInOf(std::string_view accelerator) {
  for (const auto& [asked, used] : kStandIns) {
    if (asked == accelerator) return used;
  }
  return accelerator;
}

}  // namespace

absl::StatusOr<RentedMachine> Ec2TypeFor(const MachineNeed& need, const Catalog& catalog) {
  const MachineType* asked = catalog.FindMachineType(need.type);
  if (asked != nullptr && asked->category == MachineType::Category::kEc2) return AsItIs(*asked);
  const std::string_view accelerator = StandInOf(need.accelerator);
  const MachineType* best = nullptr;
  for (const MachineType& type : catalog.machine_types()) {
    if (type.category != MachineType::Category::kEc2 || !type.price) continue;
    if (type.accelerator != accelerator || type.accelerator_count < need.accelerators) continue;
    if (type.vcpus < need.vcpus || type.memory_gb < need.memory_gb) continue;
    if (best == nullptr || type.price->usd_per_hour < best->price->usd_per_hour) best = &type;
  }
  if (best != nullptr) return AsItIs(*best);
  return absl::NotFoundError(
      need.accelerators == 0
          ? fmt::format("no EC2 type that is known here has {} vCPUs and {:g} GB", need.vcpus,
                        need.memory_gb)
          : fmt::format(
                "no EC2 type that is known here has {} x {} or more with {} vCPUs and {:g} GB",
                need.accelerators, accelerator, need.vcpus, need.memory_gb));
}

std::map<std::string, Price> Ec2Prices(const RentedMachine& machine, const Catalog&) {
  if (!machine.price) return {};
  return {{"us-east-1", *machine.price}};
}

std::string Ec2RegionOf(const std::string& zone) {
  std::vector<std::string> parts = absl::StrSplit(zone, '-');
  if (parts.size() > 3) parts.resize(3);
  std::string region = fmt::format("{}", fmt::join(parts, "-"));
  while (!region.empty() && std::isalpha(static_cast<unsigned char>(region.back()))) {
    region.pop_back();
  }
  return region;
}

Ec2Quota Ec2QuotaOf(const std::string& type, bool spot) {
  switch (type.empty() ? ' ' : type[0]) {
    case 'g':
      return spot ? Ec2Quota{"L-3819A6DF", "All G and VT Spot Instance Requests"}
                  : Ec2Quota{"L-DB2E81BA", "Running On-Demand G and VT instances"};
    case 'p':
      return spot ? Ec2Quota{"L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests"}
                  : Ec2Quota{"L-417A185B", "Running On-Demand P instances"};
    default:
      return spot ? Ec2Quota{"L-34B43A08", "All Standard Spot Instance Requests"}
                  : Ec2Quota{"L-1216C47A", "Running On-Demand Standard instances"};
  }
}

}  // namespace muster::cluster
