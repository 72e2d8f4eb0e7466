#include "cluster/aws_deadline.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "cluster/aws.h"
#include "master/json_fields.h"
#include "telemetry/crc32c.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr size_t kJobLetters = 28;  // of 64: "muster-", a sum, an instance's id and dashes

std::vector<std::string> SchedulerWords(const Aws& aws, const std::string& region,
                                        std::vector<std::string> more) {
  std::vector<std::string> words = AwsWords(aws, region);
  words.emplace_back("scheduler");
  std::ranges::move(more, std::back_inserter(words));
  return words;
}

// What a refusal means for whoever has written the role.
absl::Status About(const absl::Status& status) {
  if (!absl::IsPermissionDenied(status) && !absl::IsFailedPrecondition(status)) return status;
  return absl::Status(
      status.code(),
      fmt::format("{} (for cluster.aws.schedulerRole the login needs scheduler:CreateSchedule, "
                  "ListSchedules, DeleteSchedule and iam:PassRole, and the role must trust "
                  "scheduler.amazonaws.com)",
                  std::string(status.message())));
}

}  // namespace

std::string DeadlinePrefix(const std::string& job_id) {
  return fmt::format("muster-{}-{:08x}-", job_id.substr(0, kJobLetters), Crc32c(job_id));
}

std::string DeadlineName(const std::string& job_id, const std::string& instance) {
  return DeadlinePrefix(job_id) + instance;
}

std::vector<std::string> CreateDeadlineWords(const Aws& aws, const MachineOrder& order,
                                             const std::string& instance, int64_t at_ms) {
  // "arn:aws-cn:iam::…": the role's partition is the scheduler's.
  const std::vector<std::string> arn = absl::StrSplit(aws.scheduler_role(), ':');
  const std::string target = master::DumpJson(
      {{"Arn", fmt::format("arn:{}:scheduler:::aws-sdk:ec2:terminateInstances", arn.at(1))},
       {"RoleArn", aws.scheduler_role()},
       {"Input", master::DumpJson({{"InstanceIds", {instance}}})}});
  const std::string at = FormatTime(at_ms).substr(0, 19);  // without fractions, in UTC
  return SchedulerWords(
      aws, order.place.region,
      {"create-schedule", "--name", DeadlineName(order.job_id, instance), "--description",
       fmt::format("ends a machine of job {} of {} (Muster)", order.job_id, order.owner),
       "--schedule-expression", fmt::format("at({})", at), "--flexible-time-window", "Mode=OFF",
       "--action-after-completion", "DELETE", "--target", target});
}

std::vector<std::string> ListDeadlinesWords(const Aws& aws, const std::string& region,
                                            const std::string& job_id) {
  return SchedulerWords(
      aws, region,
      {"list-schedules", "--name-prefix", DeadlinePrefix(job_id), "--query", "Schedules[].[Name]"});
}

std::vector<std::string> DeleteDeadlineWords(const Aws& aws, const std::string& region,
                                             const std::string& name) {
  return SchedulerWords(aws, region, {"delete-schedule", "--name", name});
}

absl::Status Ec2Deadlines::Check(const std::string& region, const std::string& job_id) const {
  if (aws_.scheduler_role().empty()) return absl::OkStatus();
  const absl::Status asked = tool_.Ask(ListDeadlinesWords(aws_, region, job_id)).status();
  return IsUnasked(asked) ? absl::OkStatus() : About(asked);
}

absl::Status Ec2Deadlines::Set(
    const MachineOrder& order, const std::vector<std::string>& instances,
    const std::function<absl::Status(const std::string& name)>& before) const {
  if (aws_.scheduler_role().empty()) return absl::OkStatus();
  const int64_t at_ms = patience_.now_ms() + order.lifetime_s * 1000;
  for (const std::string& instance : instances) {
    RETURN_IF_ERROR(before(DeadlineName(order.job_id, instance)));
    tool_.Begin(CreateDeadlineWords(aws_, order, instance, at_ms));
  }
  for (const std::string& instance : instances) {
    const absl::Status made = tool_
                                  .Ask(CreateDeadlineWords(aws_, order, instance, at_ms),
                                       [&] { return before(DeadlineName(order.job_id, instance)); })
                                  .status();
    // An earlier call was done, and its answer lost.
    if (!made.ok() && !IsUnasked(made) && !absl::IsAlreadyExists(made)) return About(made);
  }
  return absl::OkStatus();
}

absl::Status Ec2Deadlines::Remove(const std::string& region, const std::string& job_id) const {
  if (aws_.scheduler_role().empty()) return absl::OkStatus();
  const auto listed = tool_.Ask(ListDeadlinesWords(aws_, region, job_id));
  if (!listed.ok() && !IsUnasked(listed.status())) return About(listed.status());
  const std::vector<std::string> names =
      listed.ok() ? Lines(listed->out) : std::vector<std::string>{"$SCHEDULES"};
  for (const std::string& name : names) tool_.Begin(DeleteDeadlineWords(aws_, region, name));
  for (const std::string& name : names) {
    const absl::Status removed = tool_.Ask(DeleteDeadlineWords(aws_, region, name)).status();
    if (!removed.ok() && !IsUnasked(removed) && !absl::IsNotFound(removed)) return About(removed);
  }
  return absl::OkStatus();
}

}  // namespace muster::cluster
