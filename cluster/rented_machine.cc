#include "cluster/rented_machine.h"

#include <algorithm>
#include <utility>

#include "cluster/aws_machines.h"
#include "cluster/gcp_machines.h"
#include "telemetry/check.h"

namespace muster::cluster {
namespace {

// Of regions and zones, each once.
template <class Places>
std::vector<std::string> Regions(const Places& places,
                                 std::string (*region_of)(const std::string&)) {
  std::vector<std::string> regions(places.regions().begin(), places.regions().end());
  for (const std::string& zone : places.zones()) {
    std::string region = region_of(zone);
    if (std::ranges::count(regions, region) == 0) regions.push_back(std::move(region));
  }
  return regions;
}

struct Row {
  Cluster::Provider provider;
  absl::StatusOr<RentedMachine> (*find)(const MachineNeed& need, const Catalog& catalog);
  std::map<std::string, Price> (*by_region)(const RentedMachine& machine, const Catalog& catalog);
  std::vector<std::string> (*regions)(const Cluster& cluster);
  const char* prices;
  const char* priced_region;
  const char* example;
};
constexpr Row kRows[] = {
    {Cluster::AWS, Ec2TypeFor, Ec2Prices,
     [](const Cluster& cluster) { return Regions(cluster.aws(), Ec2RegionOf); }, "EC2 on demand",
     "us-east-1", "EC2's such as c6i.4xlarge"},
    {Cluster::GCP, GceTypeFor, GcePrices,
     [](const Cluster& cluster) { return Regions(cluster.gcp(), GceRegionOf); },
     "Compute Engine on demand", "us-central1", "Compute Engine's such as n1-standard-8"},
};

const Row* Find(Cluster::Provider provider) {
  for (const Row& row : kRows) {
    if (row.provider == provider) return &row;
  }
  return nullptr;
}

const Row& Get(Cluster::Provider provider) {
  const Row* row = Find(provider);
  CHECK(row != nullptr);
  return *row;
}

}  // namespace

RentedMachine AsItIs(const MachineType& type) {
  return {.type = type.name,
          .vcpus = type.vcpus,
          .memory_gb = type.memory_gb,
          .accelerator = type.accelerator,
          .accelerators = type.accelerator_count,
          .price = type.price};
}

bool RentsByType(Cluster::Provider provider) { return Find(provider) != nullptr; }

bool IsSpot(const Job& job, Role role) {
  return role == Role::kWorker && RentsByType(job.cluster().provider()) &&
         job.training_input().scheduling().strategy() == Scheduling::LOW_COST;
}

const char* PricesOf(Cluster::Provider provider) { return Get(provider).prices; }
const char* PricedRegionOf(Cluster::Provider provider) { return Get(provider).priced_region; }
const char* ExampleTypeOf(Cluster::Provider provider) { return Get(provider).example; }

std::vector<std::string> RegionsOf(const Cluster& cluster) {
  return Get(cluster.provider()).regions(cluster);
}

std::map<std::string, Price> PricesByRegion(Cluster::Provider provider,
                                            const RentedMachine& machine, const Catalog& catalog) {
  return Get(provider).by_region(machine, catalog);
}

absl::StatusOr<RentedMachine> FindRented(Cluster::Provider provider, const TrainingInput& input,
                                         Role role, const Catalog& catalog) {
  const RoleSize size = SizeOf(input, role);
  const MachineType* type = catalog.FindMachineType(size.machine_type);
  CHECK(type != nullptr);
  const AcceleratorConfig gpus = AcceleratorsOf(input, role, catalog);
  return Get(provider).find({.type = size.machine_type,
                             .vcpus = type->vcpus,
                             .memory_gb = type->memory_gb,
                             .accelerator = gpus.type(),
                             .accelerators = gpus.count()},
                            catalog);
}

}  // namespace muster::cluster
