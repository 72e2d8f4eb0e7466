#include "cluster/planned_machines.h"

#include <fmt/format.h>

#include <algorithm>

#include "cluster/providers.h"
#include "cluster/random_hex.h"

namespace muster::cluster {
namespace {

constexpr int64_t kLifetimeSlackSeconds = 1'800;
constexpr size_t kRunBytes = 8;

}  // namespace

MachineOrder OrderMachines(const Plan& plan, const Cluster& cluster, const std::string& job_id,
                           const std::string& owner, int64_t max_running_ms) {
  MachineOrder order;
  order.job_id = job_id;
  order.run = "mu" + RandomHex(kRunBytes);
  order.owner = owner;
  order.lifetime_s = max_running_ms / 1000 + kLifetimeSlackSeconds;
  for (const PlanRole& role : plan.roles) {
    if (role.role == Role::kEvaluator) continue;
    order.groups.push_back({.role = role.role,
                            .count = role.count,
                            .type = role.rented_type.empty() ? role.machine_type : role.rented_type,
                            .image = role.image,
                            .vcpus = role.vcpus,
                            .memory_gb = role.memory_gb,
                            .accelerator = role.accelerator,
                            .gpus = role.accelerator_count,
                            .spot = role.spot,
                            .max_price = role.spot ? cluster.spot().max_price() : 0});
  }
  return order;
}

std::string CountMachines(int64_t machines) {
  return fmt::format("{} machine{}", machines, machines == 1 ? "" : "s");
}

double PlannedPrice(const Plan& plan, const Cluster& cluster, Role role,
                    const std::string& region) {
  const auto planned = std::ranges::find(plan.roles, role, &PlanRole::role);
  if (planned == plan.roles.end() || !BillsTheUser(cluster.provider())) return 0;
  const auto here = planned->usd_by_region.find(region);
  const bool known = !planned->spot && here != planned->usd_by_region.end();
  return known ? here->second : planned->usd_per_hour.value_or(0);
}

bool ComputesOnGpus(const Plan& plan, Role role) {
  const auto planned = std::ranges::find(plan.roles, role, &PlanRole::role);
  const bool trains = role == Role::kMaster || role == Role::kWorker;
  return trains && planned != plan.roles.end() && planned->accelerator_count > 0;
}

}  // namespace muster::cluster
