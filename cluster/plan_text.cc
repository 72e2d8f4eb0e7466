#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>

#include "cluster/disk_price.h"
#include "cluster/plan.h"
#include "cluster/rented_machine.h"
#include "configs/codec_text.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr double kLeastDifferenceUsd = 0.0001;

using Row = std::vector<std::string>;

// Rows in columns; those from the third on are numbers and stand to the right.
std::string Table(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows[0].size());
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const bool left = i == 0 || i == 2;
      line += left ? fmt::format("{:<{}}  ", row[i], widths[i])
                   : fmt::format("{:>{}}  ", row[i], widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

const char* LongName(Role role) {
  return role == Role::kParameterServer ? "parameter server" : RoleName(role);
}

std::string Price(const std::optional<double>& usd) {
  return usd ? fmt::format("{:.4f}", *usd) : "unknown";
}

// What is asked for, and what is rented for it where that is something else.
std::string Type(const PlanRole& role) {
  const bool same = role.rented_type.empty() || role.rented_type == role.machine_type;
  return fmt::format("{}{}{}", role.machine_type, same ? "" : " as " + role.rented_type,
                     role.spot ? ", spot" : "");
}

// A line for each region whose prices are known, or why none is.
std::vector<std::string> SpotLines(const PlanRole& role, double max_price) {
  const std::string limit =
      max_price > 0 ? fmt::format("; not above ${:.4f} (cluster.spot.maxPrice)", max_price) : "";
  const std::string on_demand = role.on_demand_usd_per_hour
                                    ? fmt::format("${:.4f}", *role.on_demand_usd_per_hour)
                                    : "unknown";
  std::vector<std::string> lines;
  for (const SpotSummary& price : role.spot_prices) {
    lines.push_back(
        fmt::format("{} in {}: ${:.4f} an hour in the last day (${:.4f} to ${:.4f}), now least in "
                    "{} (${:.4f}); "
                    "on demand {}{}",
                    role.rented_type, price.region, price.median, price.least, price.most,
                    price.cheapest_zone, price.cheapest, on_demand, limit));
  }
  if (lines.empty()) {
    lines.push_back(
        fmt::format("{}: spot price not known ({}): {} on demand at most{}", role.rented_type,
                    role.spot_unknown.empty() ? "not asked" : role.spot_unknown, on_demand, limit));
  }
  return lines;
}

std::string RoleTable(const Plan& plan) {
  std::vector<Row> rows = {
      {"role", "count", "machine type", "vCPUs", "GB", "GPUs", "$/h each", "$/h"}};
  int64_t count = 0, vcpus = 0;
  double memory = 0;
  for (const PlanRole& r : plan.roles) {
    const auto times = static_cast<double>(r.count);
    count += r.count;
    vcpus += r.count * r.vcpus;
    memory += times * r.memory_gb;
    rows.push_back({LongName(r.role), fmt::format("{}", r.count), Type(r),
                    fmt::format("{}", r.vcpus), fmt::format("{:g}", r.memory_gb),
                    r.accelerators.empty() ? "-" : r.accelerators, Price(r.usd_per_hour),
                    Price(r.usd_per_hour ? std::optional(times * *r.usd_per_hour) : std::nullopt)});
  }
  rows.push_back({"in all", fmt::format("{}", count), "", fmt::format("{}", vcpus),
                  fmt::format("{:g}", memory), "", "", Price(plan.usd_per_hour)});
  return Table(rows);
}

std::string Every(int64_t interval) {
  return interval == 0 ? "at the end" : fmt::format("every {} steps and at the end", interval);
}

std::string ConsistencyText(const Consistency& consistency, int64_t replicas) {
  switch (consistency.mode()) {
    case Consistency::SSP:
      return fmt::format("SSP: no replica is more than {} steps ahead of the slowest",
                         consistency.staleness());
    case Consistency::ASYNC:
      return consistency.scale_by_staleness()
                 ? "ASYNC: no replica waits for another; stale gradients count less"
                 : "ASYNC: no replica waits for another";
    default:
      if (consistency.backup_workers() > 0) {
        return fmt::format("BSP: every step counts the first {} of {} replicas",
                           replicas - consistency.backup_workers(), replicas);
      }
      return "BSP: every step waits for all replicas";
  }
}

std::string OptimizerText(const OptimizerSpec& optimizer) {
  std::string text = optimizer.name();
  const std::map<std::string, double> params(optimizer.params().begin(), optimizer.params().end());
  for (const auto& [name, value] : params) text += fmt::format(" {}={}", name, value);
  if (optimizer.weight_decay() != 0) {
    text += fmt::format(" weightDecay={}", optimizer.weight_decay());
  }
  if (optimizer.clip_norm() != 0) text += fmt::format(" clipNorm={}", optimizer.clip_norm());
  if (optimizer.clip_value() != 0) text += fmt::format(" clipValue={}", optimizer.clip_value());
  return text;
}

std::string RateText(const Stage& stage) {
  if (!stage.has_end_learning_rate()) return fmt::format("{}", stage.learning_rate());
  std::string way = stage.shape() == Stage::COSINE ? "cosine" : "linear";
  if (stage.shape() == Stage::POLYNOMIAL) way = fmt::format("power {}", stage.power());
  return fmt::format("{} to {} ({})", stage.learning_rate(), stage.end_learning_rate(), way);
}

std::string ReplicasText(const Plan& plan) {
  const int64_t workers = plan.count(Role::kWorker);
  if (workers == 0) return "1: the master alone";
  const std::string these = fmt::format("{} worker{}", workers, workers == 1 ? "" : "s");
  return plan.chief_trains
             ? fmt::format("{}: the chief on the master's machine and {}", plan.replicas, these)
             : fmt::format("{}: {}", plan.replicas, these);
}

std::string ProcessesText(const Plan& plan) {
  if (plan.one_process) return "1: coordinator, shards and trainer together";
  std::string text = fmt::format("{}: coordinator", plan.processes);
  if (plan.chief_trains) text += ", chief trainer";
  if (const int64_t n = plan.count(Role::kWorker))
    text += fmt::format(", {} worker{}", n, n == 1 ? "" : "s");
  const int64_t servers = plan.count(Role::kParameterServer);
  return text + (servers > 0
                     ? fmt::format(", {} parameter server{}", servers, servers == 1 ? "" : "s")
                     : std::string("; the coordinator keeps the weights"));
}

// Where they are from, and why not from where the machines will be.
std::string PricesText(Cluster::Provider provider, const Plan& plan) {
  std::string text =
      fmt::format("{}, {}, {}{}", PricesOf(provider), plan.priced_region,
                  plan.prices_told ? "as the provider told on " : "", plan.price_date);
  if (!plan.regions.empty() && plan.regions.front() != plan.priced_region) {
    text += fmt::format(" (those of {} are not known here)", plan.regions.front());
  }
  if (!plan.prices_unknown.empty()) {
    text += fmt::format(", by this build's table ({})", plan.prices_unknown);
  }
  return text + "; disks and traffic are not in them";
}

// What all machines cost in each region where several are allowed.
std::string RegionsText(const Plan& plan) {
  if (plan.regions.size() < 2) return "";
  std::vector<std::string> texts;
  for (const std::string& region : plan.regions) {
    const auto usd = CostIn(plan, region);
    texts.push_back(usd ? fmt::format("{} ${:.4f} an hour", region, *usd)
                        : fmt::format("{} not known", region));
  }
  return fmt::format("tried in this order: {}", fmt::join(texts, ", "));
}

struct RegionCost {
  std::string region;
  double usd = 0;
};

// The first of the cheapest; empty when none is known.
std::optional<RegionCost> CheapestOf(const Plan& plan, const std::vector<std::string>& regions) {
  std::optional<RegionCost> best;
  for (const std::string& region : regions) {
    const auto usd = CostIn(plan, region);
    if (usd && (!best || *usd < best->usd)) best = RegionCost{region, *usd};
  }
  return best;
}

// ", $0.12 an hour (4 %) less than there"; "" for what makes no difference.
std::string Less(double usd, double than, const std::string& where) {
  if (than - usd < kLeastDifferenceUsd) return "";
  return fmt::format(", ${:.4f} an hour ({:.0f} %) less than {}", than - usd,
                     100 * (than - usd) / than, where);
}

// The cheapest region that is allowed, and the cheapest of all, as far as their prices are known.
std::string CheapestText(const Plan& plan) {
  std::vector<std::string> known;  // those that are allowed first, since ties go to the first
  for (const std::string& region : plan.regions) known.push_back(region);
  for (const auto& [region, usd] : plan.roles.front().usd_by_region) known.push_back(region);
  const auto allowed = CheapestOf(plan, plan.regions), best = CheapestOf(plan, known);
  if (!best) return "";
  if (!allowed) return plan.regions.empty() ? best->region + " of those that are known here" : "";
  std::string text;
  if (plan.regions.size() > 1) {
    const auto first = CostIn(plan, plan.regions.front());
    text = fmt::format("{} of those that are allowed{}", allowed->region,
                       first ? Less(allowed->usd, *first, "the first") : "");
  }
  const std::string less = Less(best->usd, allowed->usd, allowed->region);
  if (!less.empty()) {
    text += fmt::format("{}{} of all that are known here{}", text.empty() ? "" : "; ", best->region,
                        less);
  }
  return text.empty() ? fmt::format("{}: none that is known here costs less", allowed->region)
                      : text;
}

std::string HostsText(const Ssh& ssh) {
  std::vector<std::string> names;
  for (const SshHost& host : ssh.hosts()) names.push_back(host.host());
  return fmt::format("{} ({}; the first has the master)", names.size(), fmt::join(names, ", "));
}

// Who ends machines that everybody has forgotten.
std::string Ec2DeadlineText(const Aws& aws) {
  return "half an hour later machines end themselves" +
         (aws.scheduler_role().empty()
              ? std::string("; AWS itself holds no deadline, cluster.aws.schedulerRole is absent")
              : fmt::format(", or EventBridge Scheduler ends them as {}", aws.scheduler_role()));
}

// The fields below each text.
std::string SubstitutionLines(const std::vector<Substitution>& substitutions) {
  std::vector<std::pair<std::string, std::string>> groups;  // text, lines of fields
  for (const Substitution& s : substitutions) {
    auto it = std::find_if(groups.begin(), groups.end(),
                           [&](const auto& group) { return group.first == s.text; });
    if (it == groups.end()) it = groups.emplace(groups.end(), s.text, "");
    it->second += fmt::format("      {} ({})\n", s.path, s.where);
  }
  std::string text;
  for (const auto& [what, fields] : groups) text += fmt::format("  {}\n{}", what, fields);
  return text;
}

}  // namespace

std::string FormatSchedule(const Training& training) {
  std::string text;
  for (const Stage& stage : training.schedule()) {
    text += text.empty() ? fmt::format("{} for {} steps", RateText(stage), stage.steps())
                         : fmt::format(", then {} for {}", RateText(stage), stage.steps());
  }
  return text;
}

std::string FormatPlan(const ResolvedJob& resolved, const Plan& plan) {
  const Job& job = resolved.job;
  const TrainingInput& input = job.training_input();
  const Training& training = job.training();
  const auto& limit = input.scheduling().max_running_time();
  std::string text;
  const auto line = [&](const char* name, const std::string& value) {
    if (!value.empty()) text += fmt::format("{:<14}{}\n", name, value);
  };
  line("job", job.job_id());
  line("job dir", input.job_dir());
  line("module", input.python_module());
  line("arguments", fmt::format("{}", fmt::join(resolved.changed_args, " ")));
  line("scale tier", ScaleTier_Name(input.scale_tier()));
  text += "\n" + RoleTable(plan) + "\n";
  const Cluster::Provider provider = job.cluster().provider();
  const char* where = provider == Cluster::SSH          ? "hosts of your own"
                      : provider == Cluster::SLURM      ? "nodes of Slurm's"
                      : provider == Cluster::AWS        ? "machines of EC2"
                      : provider == Cluster::GCP        ? "machines of Compute Engine"
                      : provider == Cluster::KUBERNETES ? "pods of Kubernetes's"
                                                        : "this machine";
  if (RentsByType(provider)) {
    line("prices", PricesText(provider, plan));
    line("regions", RegionsText(plan));
    line("cheapest", CheapestText(plan));
    bool by_spot = false;
    for (const PlanRole& role : plan.roles) {
      by_spot |= !role.spot_prices.empty();
      if (!role.spot) continue;
      for (const std::string& text : SpotLines(role, job.cluster().spot().max_price())) {
        line("spot", text);
      }
    }
    if (plan.usd_per_hour) {
      const double budget = job.cluster().budget().max_cost(),
                   most = MostUsd(*plan.usd_per_hour, static_cast<double>(limit.seconds()), budget);
      line("at most", fmt::format("${:.2f}, {}", most,
                                  most == budget ? "its budget"
                                  : by_spot ? "if it runs until it is stopped, and spot prices stay"
                                            : "if it runs until it is stopped"));
    }
  } else if (provider == Cluster::KUBERNETES) {
    line("prices", fmt::format("Cloud ML Engine, Americas, {}; what the cluster's nodes cost is "
                               "not known here",
                               plan.price_date));
  } else {
    line("prices", fmt::format("Cloud ML Engine, Americas, {}; on {} nothing is paid",
                               plan.price_date, where));
  }
  for (const std::string& what : resolved.unknown) line("not known", what);
  if (provider == Cluster::SSH) line("hosts", HostsText(job.cluster().ssh()));
  line("replicas", ReplicasText(plan));
  line("processes", ProcessesText(plan));
  line("device", training.device() == Training::AUTO
                     ? "AUTO: the GPU where this build and machine have one, else the CPU"
                     : Training::Device_Name(training.device()));
  line("consistency", ConsistencyText(training.consistency(), plan.replicas));
  line("optimizer", OptimizerText(training.optimizer()));
  if (const std::string codec = FormatCodec(training.codec()); codec != "none") {
    line("codec", codec);
  }
  line("steps", fmt::format("{}: learning rate {}", plan.steps, FormatSchedule(training)));
  line("batch", fmt::format("{} samples per replica, {} per step", training.batch_size(),
                            plan.global_batch));
  line("evaluation", Every(training.evaluation().interval()));
  line("checkpoints",
       fmt::format("{}; the newest {} and the best are kept",
                   Every(training.checkpoints().interval()), training.checkpoints().keep()));
  line("stops after",
       FormatDuration(limit.seconds() * 1000 + limit.nanos() / 1'000'000) + " at the latest");
  if (job.cluster().after_job() == Cluster::STOP && RentsByType(provider)) {
    int64_t disks = 0;
    for (const PlanRole& role : plan.roles) {
      disks += role.spot || role.role == Role::kEvaluator ? 0 : role.count;
    }
    line("after the job", "machines stop, and cost: " + DisksText(job.cluster(), disks, ""));
  }
  if (provider == Cluster::AWS) line("deadline", Ec2DeadlineText(job.cluster().aws()));
  if (!resolved.substitutions.empty()) {
    text += fmt::format("\ndone otherwise on {}:\n{}", where,
                        SubstitutionLines(resolved.substitutions));
  }
  return text;
}

}  // namespace muster::cluster
