#include "cluster/plan_report.h"

#include <fmt/format.h>

#include "cluster/plan.h"
#include "cluster/provider_fields.h"
#include "configs/job_yaml.h"

namespace muster::cluster {

PlanReport MakePlanReport(const Job& job) {
  PlanReport report;
  const Plan plan = MakePlan(job, Catalog::BuiltIn());
  for (const PlanRole& role : plan.roles) {
    master::PlanRow row;
    row.role = RoleName(role.role);
    row.count = static_cast<int>(role.count);
    row.machine_type = role.machine_type;
    row.detail = fmt::format("{} vCPU, {:g} GB{}{}", role.vcpus, role.memory_gb,
                             role.accelerators.empty() ? "" : ", ", role.accelerators);
    row.dollars_per_hour = role.usd_per_hour.value_or(0) * static_cast<double>(role.count);
    report.rows.push_back(std::move(row));
  }
  report.dollars_per_hour = plan.usd_per_hour.value_or(0);
  const Training& training = job.training();
  report.settings = {
      {"module", job.training_input().python_module()},
      {"consistency", Consistency::Mode_Name(training.consistency().mode())},
      {"optimizer", training.optimizer().name().empty() ? "sgd" : training.optimizer().name()},
      {"learning rate", FormatSchedule(training)},
      {"replicas", fmt::format("{}", plan.replicas)},
      {"batch",
       fmt::format("{} per replica, {} per step", training.batch_size(), plan.global_batch)},
      {"seed", fmt::format("{}", training.seed())},
      {"threads per trainer", fmt::format("{}", training.threads())},
  };
  JobDraft draft;
  if (ReadJobYaml(WriteJobYaml(job), "job.yaml", &draft)) {
    for (const Substitution& substitution : CheckProviderFields(&draft)) {
      report.substitutions.emplace_back(substitution.path, substitution.text);
    }
  }
  return report;
}

}  // namespace muster::cluster
