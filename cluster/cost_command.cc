#include "cluster/cost_command.h"

#include <fmt/format.h>

#include "cluster/bill_record.h"
#include "cluster/job_registry.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr char kHelp[] =
    R"(usage: launch cost JOB

What the machines that were rented for a job have cost, by role: each begun minute at the price of the
plan. JOB is an id of launch jobs list, the beginning of one, or a job directory. Disks, addresses and
traffic are not counted.
)";

// Where the provider's own figure is, which comes later and is asked for money or not at all.
std::string OwnFigure(const JobEntry& entry) {
  if (entry.provider == "AWS") {
    return fmt::format(
        "AWS's own figure comes a day later and costs $0.01 to ask for, so it is not asked for "
        "here "
        "(the tag muster-job must be activated for cost allocation):\n"
        "  aws ce get-cost-and-usage --granularity DAILY --metrics UnblendedCost --time-period "
        "Start=YYYY-MM-DD,End=YYYY-MM-DD --filter "
        "'{{\"Tags\":{{\"Key\":\"muster-job\",\"Values\":[\"{}\"]}}}}'\n",
        entry.job_id);
  }
  if (entry.provider == "GCP") {
    return "Google's own figure is in the billing account's export to BigQuery alone, under the "
           "label muster-job; gcloud does not tell it\n";
  }
  return "";
}

int Complain(const CommandContext& context, const absl::Status& status) {
  fmt::print(context.err, "{}\n", std::string(status.message()));
  return kWrongInput;
}

}  // namespace

int RunCostCommand(const CommandContext& context, const std::string& registry) {
  const std::vector<std::string>& words = context.words;
  if (words.size() == 1 && (words[0] == "--help" || words[0] == "-h")) {
    fmt::print(context.out, "{}", kHelp);
    return kSucceeded;
  }
  if (words.size() != 1 || words[0].starts_with('-')) {
    return Complain(context,
                    absl::InvalidArgumentError(
                        "write launch cost JOB, with a JOB of launch jobs list or a directory"));
  }
  const auto entry = JobRegistry(registry).Find(words[0]);
  if (!entry.ok()) return Complain(context, entry.status());
  const auto spans = ReadBill(entry->job_dir);
  if (!spans.ok()) return Complain(context, spans.status());
  if (spans->empty()) {
    fmt::print(context.out, "nothing was rented for {}\n", entry->job_id);
    return kSucceeded;
  }
  fmt::print(context.out, "{}{}", BillText(*spans, UnixMillis()), OwnFigure(*entry));
  return kSucceeded;
}

}  // namespace muster::cluster
