#include "cluster/rented_machine.h"

#include "cluster/aws_machines.h"
#include "cluster/gcp_machines.h"
#include "telemetry/check.h"

namespace muster::cluster {
namespace {

struct Row {
  Cluster::Provider provider;
  absl::StatusOr<RentedMachine> (*find)(const MachineNeed& need, const Catalog& catalog);
  const char* prices;
  const char* example;
};
constexpr Row kRows[] = {
    {Cluster::AWS, Ec2TypeFor, "EC2 on demand, us-east-1", "EC2's such as c6i.4xlarge"},
    {Cluster::GCP, GceTypeFor, "Compute Engine on demand, us-central1",
     "Compute Engine's such as n1-standard-8"},
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
const char* ExampleTypeOf(Cluster::Provider provider) { return Get(provider).example; }

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
