#include "cluster/gcp_machines.h"

#include <absl/strings/ascii.h>
#include <absl/strings/str_replace.h>
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace muster::cluster {
namespace {

constexpr char kT4[] = "NVIDIA_TESLA_T4", kL4[] = "NVIDIA_L4";
// A machine of more vCPUs takes four T4s or none.
constexpr int kMostVcpusOfFewT4s = 48;
constexpr int64_t kMostT4s = 4;

// What stands for accelerators; as they are where nothing does.
std::string StandInOf(const MachineNeed& need) {
  const bool small = need.accelerator == kT4 || need.accelerator == "NVIDIA_TESLA_K80" ||
                     need.accelerator == "NVIDIA_TESLA_P4" ||
                     need.accelerator == "NVIDIA_TESLA_P100";
  if (small && need.accelerators <= kMostT4s) return kT4;
  if (small || need.accelerator == "NVIDIA_TESLA_V100") return kL4;
  return need.accelerator;
}

// The cheapest type that is large enough; null when there is none.
const MachineType* Cheapest(const MachineNeed& need, const std::string& accelerator,
                            int64_t accelerators, const Catalog& catalog) {
  const MachineType* best = nullptr;
  for (const MachineType& type : catalog.machine_types()) {
    if (type.category != MachineType::Category::kComputeEngine || !type.price) continue;
    if (type.accelerator != accelerator || type.accelerator_count < accelerators) continue;
    if (type.vcpus < need.vcpus || type.memory_gb < need.memory_gb) continue;
    if (best == nullptr || type.price->usd_per_hour < best->price->usd_per_hour) best = &type;
  }
  return best;
}

// A machine for `need` without its GPUs.
absl::StatusOr<RentedMachine> Bare(const MachineNeed& need, const Catalog& catalog) {
  const MachineType* asked = catalog.FindMachineType(need.type);
  if (asked != nullptr && asked->category == MachineType::Category::kComputeEngine) {
    return AsItIs(*asked);
  }
  if (asked != nullptr && asked->category == MachineType::Category::kLegacy) {
    if (const MachineType* shape = catalog.FindMachineType(asked->shape)) return AsItIs(*shape);
    // The legacy type has the price of its shape.
    RentedMachine machine = AsItIs(*asked);
    machine.type = asked->shape;
    return machine;
  }
  if (const MachineType* found = Cheapest(need, "", 0, catalog)) return AsItIs(*found);
  return absl::NotFoundError(
      fmt::format("no Compute Engine type that is known here has {} vCPUs and {:g} GB", need.vcpus,
                  need.memory_gb));
}

int64_t T4sFor(int64_t accelerators, int vcpus) {
  if (vcpus > kMostVcpusOfFewT4s || accelerators > 2) return kMostT4s;
  return accelerators;
}

RentedMachine WithT4s(RentedMachine machine, int64_t accelerators, const Catalog& catalog) {
  machine.accelerator = kT4;
  machine.accelerators = T4sFor(accelerators, machine.vcpus);
  const Accelerator* t4 = catalog.FindAccelerator(kT4);
  if (t4 == nullptr || !t4->price) {
    machine.price.reset();
  } else if (machine.price) {
    machine.price->usd_per_hour +=
        static_cast<double>(machine.accelerators) * t4->price->usd_per_hour;
    machine.price->date = std::min(machine.price->date, t4->price->date);
  }
  return machine;
}

}  // namespace

absl::StatusOr<RentedMachine> GceTypeFor(const MachineNeed& need, const Catalog& catalog) {
  const MachineType* asked = catalog.FindMachineType(need.type);
  const bool own = asked != nullptr && asked->category == MachineType::Category::kComputeEngine &&
                   asked->accelerator_count > 0;
  if (own) return AsItIs(*asked);
  if (need.accelerators == 0) return Bare(need, catalog);
  const std::string accelerator = StandInOf(need);
  if (accelerator == kT4) {
    ASSIGN_OR_RETURN(RentedMachine machine, Bare(need, catalog));
    return WithT4s(std::move(machine), need.accelerators, catalog);
  }
  const MachineType* found = Cheapest(need, accelerator, need.accelerators, catalog);
  if (found != nullptr) return AsItIs(*found);
  return absl::NotFoundError(
      fmt::format("no Compute Engine type that is known here has {} x {} or more with {} vCPUs and "
                  "{:g} GB",
                  need.accelerators, accelerator, need.vcpus, need.memory_gb));
}

std::map<std::string, Price> GcePrices(const RentedMachine& machine, const Catalog& catalog) {
  if (!machine.price) return {};
  std::map<std::string, Price> prices = {{"us-central1", *machine.price}};
  // What they cost elsewhere is not in the catalogue.
  if (machine.accelerators > 0 && TakesAccelerators(machine.type)) return prices;
  const std::string family = machine.type.substr(0, machine.type.find('-'));
  for (const RegionFactor& factor : catalog.region_factors()) {
    if (factor.family != family) continue;
    Price price = *machine.price;
    price.usd_per_hour *= factor.factor;
    price.date = std::min(price.date, factor.date);
    prices.emplace(factor.region, std::move(price));
  }
  return prices;
}

std::string GceRegionOf(const std::string& zone) { return zone.substr(0, zone.rfind('-')); }

bool TakesAccelerators(const std::string& type) { return type.starts_with("n1-"); }

std::string GceAccelerator(const std::string& accelerator) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(accelerator), {{"_", "-"}});
}

std::string GceGpuQuota(const std::string& accelerator) {
  return absl::StrReplaceAll(accelerator, {{"TESLA_", ""}}) + "_GPUS";
}

}  // namespace muster::cluster
