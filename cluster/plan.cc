#include "cluster/plan.h"

#include <algorithm>
#include <utility>

#include "cluster/rented_machine.h"
#include "configs/schedule.h"
#include "telemetry/check.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr size_t kDateBytes = 10;  // of "2026-11-22T…"
constexpr Role kRoles[] = {Role::kMaster, Role::kWorker, Role::kParameterServer, Role::kEvaluator};

// Keeps the older of two dates; "2019-11" sorts as text.
void KeepOlder(const std::string& date, std::string* oldest) {
  if (oldest->empty() || date < *oldest) *oldest = date;
}

void Rent(const RentedMachine& machine, PlanRole* plan, std::string* price_date) {
  plan->rented_type = machine.type;
  plan->vcpus = machine.vcpus;
  plan->memory_gb = machine.memory_gb;
  plan->accelerator = machine.accelerator;
  plan->accelerator_count = machine.accelerators;
  plan->accelerators = machine.accelerator.empty()
                           ? ""
                           : fmt::format("{} x {}", machine.accelerators, machine.accelerator);
  plan->usd_per_hour.reset();
  if (!machine.price) return;
  plan->usd_per_hour = machine.price->usd_per_hour;
  KeepOlder(machine.price->date, price_date);
}

PlanRole PlanOf(const TrainingInput& input, Role role, const RoleSize& size, const Catalog& catalog,
                std::string* price_date) {
  PlanRole plan{role, size.count, size.machine_type};
  plan.image = ImageOf(input, role);
  const MachineType* type = catalog.FindMachineType(size.machine_type);
  CHECK(type != nullptr);
  plan.vcpus = type->vcpus;
  plan.memory_gb = type->memory_gb;
  if (type->price) {
    plan.usd_per_hour = type->price->usd_per_hour;
    KeepOlder(type->price->date, price_date);
  }
  const AcceleratorConfig gpus = AcceleratorsOf(input, role, catalog);
  if (gpus.count() == 0) return plan;
  plan.accelerator = gpus.type();
  plan.accelerator_count = gpus.count();
  plan.accelerators = fmt::format("{} x {}", gpus.count(), gpus.type());
  if (type->accelerator_count > 0) return plan;  // in the machine's price
  const Accelerator* accelerator = catalog.FindAccelerator(gpus.type());
  CHECK(accelerator != nullptr);
  if (!accelerator->price) {
    plan.usd_per_hour.reset();
  } else if (plan.usd_per_hour) {
    *plan.usd_per_hour += static_cast<double>(gpus.count()) * accelerator->price->usd_per_hour;
    KeepOlder(accelerator->price->date, price_date);
  }
  return plan;
}

// Of all machines; empty when one is not known.
std::optional<double> Sum(const std::vector<PlanRole>& roles) {
  double usd = 0;
  for (const PlanRole& role : roles) {
    if (!role.usd_per_hour) return std::nullopt;
    usd += static_cast<double>(role.count) * *role.usd_per_hour;
  }
  return usd;
}

// Prices of a region; false, and nothing, when one is not known.
bool PriceIn(const std::string& region, Plan* plan) {
  const bool known = std::ranges::all_of(
      plan->roles, [&](const PlanRole& role) { return role.usd_by_region.contains(region); });
  if (!known) return false;
  plan->priced_region = region;
  for (PlanRole& role : plan->roles) {
    role.usd_per_hour = role.on_demand_usd_per_hour = role.usd_by_region.at(region);
  }
  return true;
}

}  // namespace

int64_t Plan::count(Role role) const {
  for (const PlanRole& r : roles) {
    if (r.role == role) return r.count;
  }
  return 0;
}

double MostUsd(double usd_per_hour, double max_running_s, double budget) {
  const double usd = usd_per_hour * max_running_s / 3600;
  return budget > 0 ? std::min(usd, budget) : usd;
}

void ReckonWithOnDemand(const absl::StatusOr<RegionPrices>& prices, Plan* plan) {
  if (!prices.ok()) {
    plan->prices_unknown = std::string(prices.status().message());
    return;
  }
  std::map<std::string, std::map<std::string, double>> by_type;
  for (const RegionPrice& price : prices->prices) {
    by_type[price.type][price.region] = price.usd_per_hour;
  }
  Plan told = *plan;
  for (PlanRole& role : told.roles) role.usd_by_region = by_type[role.rented_type];
  const bool priced = (!told.regions.empty() && PriceIn(told.regions.front(), &told)) ||
                      PriceIn(std::string(plan->priced_region), &told);
  if (!priced) {
    plan->prices_unknown = "the provider tells none of these machine types there";
    return;
  }
  told.prices_told = true;
  told.price_date = FormatTime(prices->asked_ms).substr(0, kDateBytes);
  told.usd_per_hour = Sum(told.roles);
  *plan = std::move(told);
}

std::optional<double> CostIn(const Plan& plan, const std::string& region) {
  double usd = 0;
  for (const PlanRole& role : plan.roles) {
    const auto spot = std::ranges::find(role.spot_prices, region, &SpotSummary::region);
    const auto on_demand = role.usd_by_region.find(region);
    if (role.spot && spot != role.spot_prices.end()) {
      usd += static_cast<double>(role.count) * spot->median;
    } else if (on_demand != role.usd_by_region.end()) {
      usd += static_cast<double>(role.count) * on_demand->second;
    } else {
      return std::nullopt;
    }
  }
  return usd;
}

void ReckonWithSpot(const absl::StatusOr<std::vector<SpotPrice>>& prices, Plan* plan) {
  for (PlanRole& role : plan->roles) {
    if (!role.spot) continue;
    if (prices.ok()) role.spot_prices = Summarize(*prices, role.rented_type);
    if (!role.spot_prices.empty()) {
      role.usd_per_hour = role.spot_prices.front().median;
    } else {
      role.spot_unknown =
          prices.ok() ? "the provider tells none" : std::string(prices.status().message());
    }
  }
  plan->usd_per_hour = Sum(plan->roles);
}

Plan MakePlan(const Job& job, const Catalog& catalog) {
  Plan plan;
  for (const Role role : kRoles) {
    const RoleSize size = SizeOf(job.training_input(), role);
    if (size.count == 0) continue;
    std::string price_date;
    plan.roles.push_back(PlanOf(job.training_input(), role, size, catalog, &price_date));
    if (const Cluster::Provider provider = job.cluster().provider(); RentsByType(provider)) {
      const auto rented = FindRented(provider, job.training_input(), role, catalog);
      CHECK(rented.ok());
      price_date.clear();
      Rent(*rented, &plan.roles.back(), &price_date);
      for (const auto& [region, price] : PricesByRegion(provider, *rented, catalog)) {
        plan.roles.back().usd_by_region[region] = price.usd_per_hour;
      }
    }
    if (!price_date.empty()) KeepOlder(price_date, &plan.price_date);
    PlanRole& r = plan.roles.back();
    r.spot = IsSpot(job, role);
    r.on_demand_usd_per_hour = r.usd_per_hour;
  }
  if (RentsByType(job.cluster().provider())) {
    plan.regions = RegionsOf(job.cluster());
    plan.priced_region = PricedRegionOf(job.cluster().provider());
    if (!plan.regions.empty()) (void)PriceIn(plan.regions.front(), &plan);
  }
  plan.usd_per_hour = Sum(plan.roles);
  const int64_t workers = plan.count(Role::kWorker), servers = plan.count(Role::kParameterServer);
  plan.chief_trains = job.training().chief_trains();
  plan.replicas = workers + (plan.chief_trains ? 1 : 0);
  plan.one_process = workers == 0 && servers == 0;
  plan.processes = plan.one_process ? 1 : 1 + (plan.chief_trains ? 1 : 0) + workers + servers;
  plan.steps = TotalSteps(job.training());
  plan.global_batch =
      job.training().batch_size() * (plan.replicas - job.training().consistency().backup_workers());
  return plan;
}

}  // namespace muster::cluster
