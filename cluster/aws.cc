#include "cluster/aws.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>

#include "cluster/aws_machines.h"
#include "cluster/watchdog.h"
#include "configs/tiers.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr char kRoleTag[] = "muster-role", kAttemptTag[] = "muster-attempt",
               kFirstTag[] = "muster-first", kOwnerTag[] = "muster-owner";

std::string Tags(const char* kind, const MachineOrder& order, const MachineGroup& group) {
  const auto tag = [](const char* key, const std::string& value) {
    return fmt::format("{{Key={},Value={}}}", key, value);
  };
  return fmt::format("ResourceType={},Tags=[{},{},{},{},{},{}]", kind,
                     tag("Name", fmt::format("{}-{}", order.job_id, RoleName(group.role))),
                     tag(kAwsJobTag, order.job_id), tag(kRoleTag, RoleName(group.role)),
                     tag(kAttemptTag, fmt::format("{}", order.attempt)),
                     tag(kFirstTag, fmt::format("{}", group.first_index)),
                     tag(kOwnerTag, order.owner));
}

std::optional<MachineState> StateOf(std::string_view name) {
  if (name == "pending") return MachineState::kPending;
  if (name == "running") return MachineState::kRunning;
  if (name == "stopping" || name == "stopped") return MachineState::kStopped;
  if (name == "shutting-down" || name == "terminated") return MachineState::kGone;
  return std::nullopt;
}

// What aws prints for null.
std::string OrNone(std::string_view text) {
  return text == "None" ? std::string() : std::string(text);
}

struct Explanation {
  std::string_view said;
  absl::StatusCode code;
  std::string_view text;  // after what AWS says
};
constexpr auto kTransient = absl::StatusCode::kUnavailable;
constexpr auto kWrong = absl::StatusCode::kFailedPrecondition;
constexpr Explanation kExplanations[] = {
    {"InsufficientInstanceCapacity", kNoRoomInZone, ""},
    {"InsufficientHostCapacity", kNoRoomInZone, ""},
    {"InsufficientCapacityOnOutpost", kNoRoomInZone, ""},
    {"SpotMaxPriceTooLow", kNoRoomInZone, ""},
    {"(Unsupported)", kNoRoomInZone, ""},
    {"VcpuLimitExceeded", kNoQuotaInRegion, "quota"},
    {"InstanceLimitExceeded", kNoQuotaInRegion, "quota"},
    {"MaxSpotInstanceCountExceeded", kNoQuotaInRegion, "quota"},
    {"RequestLimitExceeded", kTransient, ""},
    {"Throttling", kTransient, ""},
    {"ServiceUnavailable", kTransient, ""},
    {"InternalError", kTransient, ""},
    {"InternalFailure", kTransient, ""},
    {"(Unavailable)", kTransient, ""},
    {"(503)", kTransient, ""},
    {"(500)", kTransient, ""},
    {"Could not connect to the endpoint", kTransient, "is there a network, and this region?"},
    {"Connection was closed", kTransient, ""},
    {"Connect timeout", kTransient, ""},
    {"Read timeout", kTransient, ""},
    {"InvalidInstanceID.NotFound", kTransient, ""},
    {"(IncorrectInstanceState)", kTransient, ""},
    {"InvalidAMIName.Duplicate", absl::StatusCode::kAlreadyExists, ""},
    {"(ConflictException)", absl::StatusCode::kAlreadyExists, ""},
    {"(ResourceNotFoundException)", absl::StatusCode::kNotFound, ""},
    {"IdempotentParameterMismatch", absl::StatusCode::kInternal, ""},
    {"InvalidGroup.Duplicate", absl::StatusCode::kAlreadyExists, ""},
    {"InvalidPermission.Duplicate", absl::StatusCode::kAlreadyExists, ""},
    {"UnauthorizedOperation", absl::StatusCode::kPermissionDenied,
     "ask whoever runs the account for this permission"},
    {"AccessDenied", absl::StatusCode::kPermissionDenied,
     "ask whoever runs the account for this permission"},
    {"Unable to locate credentials", absl::StatusCode::kUnauthenticated,
     "log in: aws configure, or aws sso login"},
    {"ExpiredToken", absl::StatusCode::kUnauthenticated, "log in again: aws sso login"},
    {"Token has expired", absl::StatusCode::kUnauthenticated, "log in again: aws sso login"},
    {"InvalidClientTokenId", absl::StatusCode::kUnauthenticated,
     "the login is not one of AWS's: aws configure"},
    {"AuthFailure", absl::StatusCode::kUnauthenticated,
     "the login is not one of AWS's: aws configure"},
    {"could not be found", kWrong, "see cluster.aws.profile"},
    {"You must specify a region", kWrong, "write cluster.aws.regions"},
    {"InvalidSnapshot.NotFound", absl::StatusCode::kNotFound, ""},
    {"InvalidAMIID", kWrong, "see cluster.aws.image; an image belongs to one region"},
    {"ParameterNotFound", kWrong, "see cluster.aws.image"},
    {"InvalidInstanceType", kWrong, "EC2 has no such type (any more): see trainingInput.*Type"},
    {"InvalidSubnetID", kWrong, "see cluster.aws.subnet"},
    {"InvalidGroup", kWrong, "see cluster.aws.securityGroups"},
    {"InvalidParameterValue", kWrong, ""},
};

}  // namespace

std::vector<std::string> AwsWords(const Aws& aws, const std::string& region) {
  std::vector<std::string> words = {"aws", "--output",           "text", "--cli-connect-timeout",
                                    "10",  "--cli-read-timeout", "60"};
  if (!aws.profile().empty()) words.insert(words.end(), {"--profile", aws.profile()});
  if (!region.empty()) words.insert(words.end(), {"--region", region});
  return words;
}

std::string Ec2Token(const MachineOrder& order, const MachineGroup& group) {
  return fmt::format("{}-{}-{}", order.run, order.attempt, RoleName(group.role));
}

std::vector<std::string> RunInstancesWords(const Aws& aws, const MachineOrder& order,
                                           const MachineGroup& group, const Ec2Launch& launch) {
  std::vector<std::string> words = AwsWords(aws, order.place.region);
  const auto add = [&](std::initializer_list<std::string> more) {
    words.insert(words.end(), more);
  };
  add({"ec2", "run-instances", "--count", fmt::format("{}", group.count), "--instance-type",
       group.type, "--image-id", launch.image, "--client-token", Ec2Token(order, group),
       "--instance-initiated-shutdown-behavior", "terminate", "--user-data", launch.first_script,
       "--metadata-options", "HttpTokens=required,HttpPutResponseHopLimit=1"});
  std::string placement;
  if (!order.place.zone.empty()) add({"--placement", "AvailabilityZone=" + order.place.zone});
  if (!aws.subnet().empty()) add({"--subnet-id", aws.subnet()});
  if (!launch.security_groups.empty()) {
    add({"--security-group-ids"});
    words.insert(words.end(), launch.security_groups.begin(), launch.security_groups.end());
  }
  if (aws.disk_gb() > 0) {
    add({"--block-device-mappings",
         fmt::format("DeviceName={},Ebs={{VolumeSize={},VolumeType=gp3,DeleteOnTermination=true}}",
                     launch.root_device, aws.disk_gb())});
  }
  if (group.spot) {
    add({"--instance-market-options",
         fmt::format("MarketType=spot,SpotOptions={{{}SpotInstanceType=one-time,"
                     "InstanceInterruptionBehavior=terminate}}",
                     group.max_price > 0 ? fmt::format("MaxPrice={:.4f},", group.max_price) : "")});
  }
  add({"--tag-specifications", Tags("instance", order, group), Tags("volume", order, group),
       "--query", "Instances[].InstanceId"});
  if (launch.ask_alone) add({"--dry-run"});
  return words;
}

std::vector<std::string> DescribeInstancesWords(const Aws& aws, const std::string& region,
                                                const std::string& job_id) {
  const auto tag = [](const char* key) { return fmt::format("Tags[?Key==`{}`].Value|[0]", key); };
  const std::string query = fmt::format(
      "Reservations[].Instances[].[InstanceId,State.Name,PublicIpAddress,PrivateIpAddress,"
      "Placement."
      "AvailabilityZone,InstanceLifecycle,AmiLaunchIndex,{},{},{},{},{},StateReason.Message]",
      tag(kAwsJobTag), tag(kRoleTag), tag(kAttemptTag), tag(kOwnerTag), tag(kFirstTag));
  std::vector<std::string> words = AwsWords(aws, region);
  words.insert(words.end(),
               {"ec2", "describe-instances", "--filters",
                job_id.empty() ? fmt::format("Name=tag-key,Values={}", kAwsJobTag)
                               : fmt::format("Name=tag:{},Values={}", kAwsJobTag, job_id),
                "--query", query});
  return words;
}

std::vector<std::string> SpotPriceWords(const Aws& aws, const std::string& region,
                                        const std::set<std::string>& types, int64_t since_ms) {
  std::vector<std::string> words = AwsWords(aws, region);
  words.insert(words.end(), {"ec2", "describe-spot-price-history", "--product-descriptions",
                             "Linux/UNIX", "--start-time", FormatTime(since_ms), "--query",
                             "SpotPriceHistory[].[InstanceType,AvailabilityZone,SpotPrice,"
                             "Timestamp]",
                             "--instance-types"});
  words.insert(words.end(), types.begin(), types.end());
  return words;
}

absl::StatusOr<std::vector<SpotPrice>> ParseSpotPrices(const std::string& text) {
  std::vector<SpotPrice> prices;
  for (const auto line : absl::StrSplit(text, '\n', absl::SkipWhitespace())) {
    std::vector<std::string> cells = absl::StrSplit(line, '\t');
    SpotPrice price;
    bool sound = cells.size() == 4 && absl::SimpleAtod(cells[2], &price.usd_per_hour) &&
                 std::isfinite(price.usd_per_hour) && price.usd_per_hour > 0;
    if (sound) {
      // The same moment in aws's two ways to write it.
      if (cells[3].ends_with("+00:00")) cells[3].replace(cells[3].size() - 6, 6, "Z");
      const auto since = ParseTime(cells[3]);
      sound = since.ok();
      price.since_ms = since.value_or(0);
    }
    if (!sound) {
      return absl::InvalidArgumentError(fmt::format("aws tells of a spot price in another form: {}",
                                                    std::string_view(line.data(), line.size())));
    }
    price.type = cells[0];
    price.zone = cells[1];
    price.region = Ec2RegionOf(price.zone);
    prices.push_back(std::move(price));
  }
  return prices;
}

std::string UserDataOf(const Aws& aws, const std::string& public_key, int64_t lifetime_s) {
  const std::string user = aws.user().empty() ? "admin" : aws.user();
  return fmt::format(
      "#!/bin/sh\n"
      "timers=$(cat <<'END'\n"
      "{unless}"
      "left=$(((end - $(date +%s) + 59) / 60))\n"
      "[ $left -gt 0 ] || left=0\n"
      "shutdown -P +$left\n"
      "{watchdog}"
      "END\n"
      ")\n"
      "timers=\"end=$(($(date +%s) + {lifetime}))\n"
      "$timers\"\n"
      "sh -c \"$timers\"\n"
      // This script runs once; a machine that starts again has lost its timers.
      "boot={at_start}\n"
      "mkdir -p ${{boot%/*}}\n"
      "printf '#!/bin/sh\\n%s\\n' \"$timers\" >$boot\n"
      "chmod 700 $boot\n"
      "home=$(getent passwd {user} | cut -d: -f6)\n"
      "mkdir -p -m 700 \"$home/.ssh\"\n"
      "echo '{key}' >>\"$home/.ssh/authorized_keys\"\n"
      "chmod 600 \"$home/.ssh/authorized_keys\"\n"
      "chown -R {user}: \"$home/.ssh\"\n",
      fmt::arg("unless", UnlessItStays(user)), fmt::arg("at_start", kTimersAtStart),
      fmt::arg("lifetime", lifetime_s), fmt::arg("user", user),
      fmt::arg("watchdog", WatchdogScript(user)), fmt::arg("key", public_key));
}

absl::StatusOr<std::vector<Machine>> ParseInstances(const std::string& text,
                                                    const std::string& region) {
  std::vector<Machine> machines;
  for (const auto line : absl::StrSplit(text, '\n', absl::SkipWhitespace())) {
    const std::vector<std::string> cells = absl::StrSplit(line, '\t');
    const auto wrong = [&](const char* what) {
      return absl::InvalidArgumentError(fmt::format("aws tells of a machine {}: {}", what,
                                                    std::string_view(line.data(), line.size())));
    };
    if (cells.size() != 13) return wrong("in another form");
    Machine machine;
    machine.id = cells[0];
    if (!machine.id.starts_with("i-")) return wrong("without an id");
    const auto state = StateOf(cells[1]);
    if (!state) return wrong("in an unknown state");
    machine.state = *state;
    machine.address = OrNone(cells[2]);
    if (machine.address.empty()) machine.address = OrNone(cells[3]);
    machine.place = {region, OrNone(cells[4])};
    machine.spot = cells[5] == "spot";
    // One that somebody tagged by hand has no role; it is listed all the same.
    int first = 0;
    (void)absl::SimpleAtoi(cells[6], &machine.index);
    (void)absl::SimpleAtoi(cells[11], &first);
    machine.index += first;
    machine.job_id = OrNone(cells[7]);
    machine.role = RoleOf(cells[8]).value_or(Role::kMaster);
    (void)absl::SimpleAtoi(cells[9], &machine.attempt);
    machine.owner = OrNone(cells[10]);
    machine.reason = OrNone(cells[12]);
    machines.push_back(std::move(machine));
  }
  return machines;
}

absl::Status ExplainAws(const std::string& complaint) {
  std::string last;
  for (const auto line : absl::StrSplit(complaint, '\n', absl::SkipWhitespace())) {
    last = std::string(line.data(), line.size());
  }
  for (const Explanation& known : kExplanations) {
    if (complaint.find(known.said) == std::string::npos) continue;
    if (known.text.empty()) return absl::Status(known.code, last);
    if (known.text == "quota") {
      return absl::Status(known.code,
                          fmt::format("{}; ask for more: aws service-quotas "
                                      "request-service-quota-increase --service-code ec2",
                                      last));
    }
    return absl::Status(known.code, fmt::format("{}: {}", last, known.text));
  }
  return absl::FailedPreconditionError(last.empty() ? "aws failed and does not say why" : last);
}

absl::Status JudgeAws(const ToolResult& result) {
  return result.code == 0 ? absl::OkStatus() : ExplainAws(result.err);
}

}  // namespace muster::cluster
