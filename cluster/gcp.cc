#include "cluster/gcp.h"

#include <absl/strings/ascii.h>
#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>

#include "cluster/cloud_tool.h"
#include "cluster/gcp_machines.h"
#include "cluster/watchdog.h"
#include "configs/tiers.h"

namespace muster::cluster {
namespace {

constexpr char kJob[] = "muster-job", kRole[] = "muster-role", kAttempt[] = "muster-attempt",
               kOwner[] = "muster-owner";
constexpr size_t kLabelSize = 63;
constexpr size_t kCells = 11;

std::optional<MachineState> StateOf(std::string_view name) {
  for (const std::string_view pending : {"PENDING", "PROVISIONING", "STAGING", "REPAIRING"}) {
    if (name == pending) return MachineState::kPending;
  }
  if (name == "RUNNING") return MachineState::kRunning;
  // Its disk is there until it is listed no more.
  for (const std::string_view stopped : {"PENDING_STOP", "STOPPING", "STOPPED", "TERMINATED",
                                         "SUSPENDING", "SUSPENDED", "DEPROVISIONING"}) {
    if (name == stopped) return MachineState::kStopped;
  }
  return std::nullopt;
}

struct Explanation {
  std::string_view said;
  absl::StatusCode code;
  std::string_view text;  // after what gcloud says
};
constexpr auto kTransient = absl::StatusCode::kUnavailable;
constexpr auto kWrong = absl::StatusCode::kFailedPrecondition;
constexpr std::string_view kNotWhole = "Some requests did not succeed";
constexpr std::string_view kAskForMore =
    "ask for more: gcloud beta quotas preferences create --service=compute.googleapis.com";
constexpr std::string_view kLogIn = "log in: gcloud auth login";
// The first that fits.
constexpr Explanation kExplanations[] = {
    {"ZONE_RESOURCE_POOL_EXHAUSTED", kNoRoomInZone, ""},
    {"does not have enough resources", kNoRoomInZone, ""},
    {"rateLimitExceeded", kTransient, ""},
    {"RATE_LIMIT_EXCEEDED", kTransient, ""},
    {"Rate Limit Exceeded", kTransient, ""},
    {"Quota exceeded for quota metric", kTransient, ""},
    {"QUOTA_EXCEEDED", kNoQuotaInRegion, kAskForMore},
    {"quotaExceeded", kNoQuotaInRegion, kAskForMore},
    {"' exceeded.  Limit", kNoQuotaInRegion, kAskForMore},
    {"' exceeded. Limit", kNoQuotaInRegion, kAskForMore},
    {"active account", absl::StatusCode::kUnauthenticated, kLogIn},
    {"Reauthentication", absl::StatusCode::kUnauthenticated, kLogIn},
    {"refreshing your current auth tokens", absl::StatusCode::kUnauthenticated, kLogIn},
    {"invalid authentication credentials", absl::StatusCode::kUnauthenticated, kLogIn},
    {"Invalid Credentials", absl::StatusCode::kUnauthenticated, kLogIn},
    {"UNAUTHENTICATED", absl::StatusCode::kUnauthenticated, kLogIn},
    {"has not been used in project", kWrong, "gcloud services enable compute.googleapis.com"},
    {"SERVICE_DISABLED", kWrong, "gcloud services enable compute.googleapis.com"},
    {"property [project]", kWrong,
     "write cluster.gcp.project, or gcloud config set project PROJECT"},
    {"project property", kWrong, "write cluster.gcp.project, or gcloud config set project PROJECT"},
    {"Failed to find project", kWrong, "see cluster.gcp.project"},
    {"Unknown project", kWrong, "see cluster.gcp.project"},
    {"Invalid value for project", kWrong, "see cluster.gcp.project"},
    {"' permission for", absl::StatusCode::kPermissionDenied,
     "ask whoever runs the project for this permission"},
    {"PERMISSION_DENIED", absl::StatusCode::kPermissionDenied,
     "ask whoever runs the project for this permission"},
    {"does not have permission", absl::StatusCode::kPermissionDenied,
     "ask whoever runs the project for this permission"},
    {"is already being used by", kTransient, ""},
    {"already exists", absl::StatusCode::kAlreadyExists, ""},
    {"resourceNotReady", kTransient, ""},
    {"is not ready", kTransient, ""},
    {"gcloud crashed", kTransient, ""},
    {"Failed to establish a new connection", kTransient, ""},
    {"Connection aborted", kTransient, ""},
    {"timed out", kTransient, ""},
    {"backendError", kTransient, ""},
    {"internalError", kTransient, ""},
    {"INTERNAL_ERROR", kTransient, ""},
    {"Internal error", kTransient, ""},
    {"service is currently unavailable", kTransient, ""},
    {"HTTPError 50", kTransient, ""},
    {"/images/", kWrong, "see cluster.gcp.image, imageFamily and imageProject"},
    {"/acceleratorTypes/", kNoRoomInZone, ""},
    {"/machineTypes/", kWrong,
     "Compute Engine has no such type in this zone: see trainingInput.*Type"},
    {"/subnetworks/", kWrong, "see cluster.gcp.subnetwork"},
    {"/networks/", kWrong, "see cluster.gcp.network"},
    {"/instances/", absl::StatusCode::kNotFound, ""},
    {"/regions/", kWrong, "see cluster.gcp.regions"},
    {"/zones/", kWrong, "see cluster.gcp.zones"},
    // A list that is not whole, whatever the exit code.
    {kNotWhole, kTransient, ""},
};

// Of metric, limit and usage.
std::optional<GceRegion::Quota> QuotaOf(const std::vector<std::string>& cells) {
  GceRegion::Quota quota;
  if (!absl::SimpleAtod(cells[1], &quota.limit) || !absl::SimpleAtod(cells[2], &quota.usage)) {
    return std::nullopt;
  }
  return quota;
}

// A line without what gcloud puts around it.
std::string_view Bare(std::string_view line) {
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  for (const std::string_view head : {"- ", "ERROR: ", "WARNING: "}) {
    if (line.starts_with(head)) line.remove_prefix(head.size());
  }
  if (line.starts_with("(gcloud.") && line.find(") ") != line.npos) {
    line.remove_prefix(line.find(") ") + 2);
  }
  return line.substr(0, line.find(" This command is authenticated"));
}

// The line of a complaint that says most: the message of an operation (`message: "…">`), else the
// line that `said` is in, else the first that is no heading.
std::string Essence(const std::string& complaint, std::string_view said) {
  std::string found;
  for (const std::string& whole : Lines(complaint)) {
    std::string_view line = Bare(whole);
    if (line.starts_with("message: ")) {
      const size_t from = line.find_first_of("\"'", 8), to = line.find_last_of("\"'");
      if (from < to && to != line.npos) return std::string(line.substr(from + 1, to - from - 1));
    }
    if (line.empty() || line.ends_with(":") || line.starts_with(kNotWhole)) continue;
    const bool fits = !said.empty() && line.find(said) != line.npos;
    if (found.empty() || (fits && found.find(said) == found.npos)) found = std::string(line);
  }
  return found;
}

}  // namespace

std::vector<std::string> GcloudWords(const Gcp& gcp, const std::vector<std::string>& more) {
  std::vector<std::string> words = {"gcloud", "--quiet"};
  if (!gcp.project().empty()) words.push_back("--project=" + gcp.project());
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

std::string GceJobLabel(const std::string& job_id) {
  return absl::AsciiStrToLower(job_id).substr(0, kLabelSize);
}

std::vector<std::string> GceNames(const MachineOrder& order, const MachineGroup& group) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < group.count; ++i) {
    names.push_back(fmt::format("{}-{}-{}-{}", order.run, order.attempt, RoleName(group.role),
                                group.first_index + i));
  }
  return names;
}

std::vector<std::string> BulkCreateWords(const Gcp& gcp, const MachineOrder& order,
                                         const MachineGroup& group, const std::string& public_key) {
  const std::string user = gcp.user().empty() ? "muster" : gcp.user();
  std::vector<std::string> words = {
      "compute", "instances", "bulk", "create",
      fmt::format("--predefined-names={}", fmt::join(GceNames(order, group), ",")),
      fmt::format("--min-count={}", group.count), "--zone=" + order.place.zone,
      "--machine-type=" + group.type,
      // The deadline that Compute Engine itself holds.
      fmt::format("--max-run-duration={}s", order.lifetime_s),
      "--instance-termination-action=DELETE", "--no-service-account", "--no-scopes",
      "--boot-disk-type=pd-balanced",
      fmt::format("--labels={}={},{}={},{}={}", kJob, GceJobLabel(order.job_id), kRole,
                  RoleName(group.role), kAttempt, order.attempt),
      fmt::format("--metadata={}={},{}={},enable-oslogin=FALSE,block-project-ssh-keys=TRUE,"
                  "ssh-keys={}:{},startup-script=#!/bin/sh\n{}{}",
                  kJob, order.job_id, kOwner, order.owner, user, public_key, UnlessItStays(user),
                  WatchdogScript(user))};
  const std::string project = gcp.image_project().empty() ? "debian-cloud" : gcp.image_project();
  words.push_back("--image-project=" + project);
  if (!gcp.image().empty()) {
    words.push_back("--image=" + gcp.image());
  } else {
    words.push_back("--image-family=" +
                    (gcp.image_family().empty() ? "debian-12" : gcp.image_family()));
  }
  if (gcp.disk_gb() > 0) words.push_back(fmt::format("--boot-disk-size={}GB", gcp.disk_gb()));
  if (!gcp.network().empty()) words.push_back("--network=" + gcp.network());
  if (!gcp.subnetwork().empty()) words.push_back("--subnet=" + gcp.subnetwork());
  if (group.gpus > 0) {
    if (TakesAccelerators(group.type)) {
      words.push_back(fmt::format("--accelerator=type={},count={}",
                                  GceAccelerator(group.accelerator), group.gpus));
    }
    // They cannot move with their GPUs.
    words.emplace_back("--on-host-maintenance=TERMINATE");
  }
  if (group.spot) words.emplace_back("--provisioning-model=SPOT");
  return GcloudWords(gcp, words);
}

std::vector<std::string> ListInstancesWords(const Gcp& gcp, const std::string& job_id) {
  const std::string filter = job_id.empty()
                                 ? fmt::format("labels.{}:*", kJob)
                                 : fmt::format("labels.{}={}", kJob, GceJobLabel(job_id));
  return GcloudWords(
      gcp, {"compute", "instances", "list", "--filter=" + filter,
            fmt::format("--format=value(name,status,zone.basename(),"
                        "networkInterfaces[0].accessConfigs[0].natIP,"
                        "networkInterfaces[0].networkIP,scheduling.provisioningModel,labels.{},"
                        "labels.{},metadata.items[{}],metadata.items[{}],statusMessage)",
                        kRole, kAttempt, kJob, kOwner)});
}

absl::StatusOr<std::vector<Machine>> ParseGceInstances(const std::string& text) {
  std::vector<Machine> machines;
  for (const std::string& line : Lines(text)) {
    const std::vector<std::string> cells = absl::StrSplit(line, absl::MaxSplits('\t', kCells - 1));
    const auto wrong = [&](const char* what) {
      return absl::InvalidArgumentError(
          fmt::format("gcloud tells of a machine {}: {}", what, line));
    };
    if (cells.size() != kCells) return wrong("in another form");
    Machine machine;
    machine.id = cells[0];
    const bool plain =
        machine.id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
    if (machine.id.empty() || !plain || machine.id[0] == '-') return wrong("without a name");
    const auto state = StateOf(cells[1]);
    if (!state) return wrong("in an unknown state");
    machine.state = *state;
    if (cells[2].empty() || cells[2][0] == '-') return wrong("without a zone");
    machine.place = {GceRegionOf(cells[2]), cells[2]};
    machine.address = cells[3].empty() ? cells[4] : cells[3];
    machine.spot = cells[5] == "SPOT";
    // One that somebody labelled by hand has no role; it is listed all the same.
    machine.role = RoleOf(cells[6]).value_or(Role::kMaster);
    (void)absl::SimpleAtoi(cells[7], &machine.attempt);
    (void)absl::SimpleAtoi(machine.id.substr(machine.id.rfind('-') + 1), &machine.index);
    machine.job_id = cells[8];
    machine.owner = cells[9];
    machine.reason = cells[10];
    machines.push_back(std::move(machine));
  }
  return machines;
}

std::vector<std::string> DescribeRegionWords(const Gcp& gcp, const std::string& region) {
  return GcloudWords(gcp, {"compute", "regions", "describe", region, "--flatten=quotas[]",
                           "--format=value(quotas.metric,quotas.limit,quotas.usage,"
                           "zones.map().basename().list(separator=;))"});
}

absl::StatusOr<GceRegion> ParseGceRegion(const std::string& text) {
  GceRegion region;
  for (const std::string& line : Lines(text)) {
    const std::vector<std::string> cells = absl::StrSplit(line, '\t');
    const auto quota = cells.size() == 4 ? QuotaOf(cells) : std::nullopt;
    if (!quota) {
      return absl::InvalidArgumentError(
          fmt::format("gcloud tells of a region in another form: {}", line));
    }
    region.quotas[cells[0]] = *quota;
    region.zones = absl::StrSplit(cells[3], ';', absl::SkipEmpty());
  }
  std::ranges::sort(region.zones);
  return region;
}

std::vector<std::string> DescribeProjectWords(const Gcp& gcp) {
  return GcloudWords(gcp, {"compute", "project-info", "describe", "--flatten=quotas[]",
                           "--format=value(quotas.metric,quotas.limit,quotas.usage)"});
}

absl::StatusOr<std::map<std::string, GceRegion::Quota>> ParseGceProject(const std::string& text) {
  std::map<std::string, GceRegion::Quota> quotas;
  for (const std::string& line : Lines(text)) {
    const std::vector<std::string> cells = absl::StrSplit(line, '\t');
    const auto quota = cells.size() == 3 ? QuotaOf(cells) : std::nullopt;
    if (!quota) {
      return absl::InvalidArgumentError(
          fmt::format("gcloud tells of a project in another form: {}", line));
    }
    quotas[cells[0]] = *quota;
  }
  return quotas;
}

std::vector<std::string> MachineTypesWords(const Gcp& gcp, const std::vector<MachineGroup>& groups,
                                           const std::vector<std::string>& zones) {
  std::set<std::string> types;
  for (const MachineGroup& group : groups) types.insert(group.type);
  return GcloudWords(
      gcp, {"compute", "machine-types", "list", fmt::format("--zones={}", fmt::join(zones, ",")),
            fmt::format("--filter=name=({})", fmt::join(types, " ")),
            "--format=value(name,zone.basename())"});
}

std::vector<std::string> CreateImageWords(const Gcp& gcp, const Machine& machine,
                                          const std::string& name) {
  // The disk has the machine's name.
  return GcloudWords(gcp, {"compute", "images", "create", name, "--source-disk=" + machine.id,
                           "--source-disk-zone=" + machine.place.zone,
                           fmt::format("--labels=muster-image={}", name)});
}

std::vector<std::string> ListImagesWords(const Gcp& gcp, const std::string& name) {
  return GcloudWords(
      gcp, {"compute", "images", "list", "--no-standard-images",
            name.empty() ? std::string("--filter=labels.muster-image:*") : "--filter=name=" + name,
            "--format=value(name,status,creationTimestamp,diskSizeGb,labels.muster-image)"});
}

absl::StatusOr<std::vector<KeptImage>> ParseGceImages(const std::string& text) {
  std::vector<KeptImage> images;
  for (const auto line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> cells = absl::StrSplit(line, '\t');
    KeptImage image;
    const bool sized =
        cells.size() == 5 &&
        (cells[3].empty() || (absl::SimpleAtoi(cells[3], &image.gb) && image.gb >= 0));
    if (!sized || cells[0].empty() || cells[0][0] == '-') {
      return absl::InvalidArgumentError(fmt::format("gcloud tells of an image in another form: {}",
                                                    std::string_view(line.data(), line.size())));
    }
    image.name = image.id = cells[0];
    image.state = cells[1];
    image.made = cells[2];
    image.ours = !cells[4].empty();
    images.push_back(std::move(image));
  }
  return images;
}

std::vector<std::string> DescribeImageWords(const Gcp& gcp) {
  const std::string project =
      "--project=" + (gcp.image_project().empty() ? "debian-cloud" : gcp.image_project());
  const std::string format = "--format=value(name,architecture)";
  if (!gcp.image().empty()) {
    return {"gcloud", "--quiet", "compute", "images", "describe", gcp.image(), project, format};
  }
  return {"gcloud",
          "--quiet",
          "compute",
          "images",
          "describe-from-family",
          gcp.image_family().empty() ? "debian-12" : gcp.image_family(),
          project,
          format};
}

std::string GceCpuQuota(const std::string& type, const GceRegion& region) {
  const std::string own = absl::AsciiStrToUpper(type.substr(0, type.find('-'))) + "_CPUS";
  return region.quotas.contains(own) ? own : "CPUS";
}

absl::Status JudgeGcloud(const ToolResult& result) {
  const std::string& said = result.err;
  const bool complains =
      said.find("ERROR:") != std::string::npos || said.find(kNotWhole) != std::string::npos;
  if (result.code == 0 && !complains) return absl::OkStatus();
  for (const Explanation& known : kExplanations) {
    if (said.find(known.said) == std::string::npos) continue;
    std::string essence = Essence(said, known.said);
    if (known.text.empty()) return absl::Status(known.code, essence);
    if (essence.ends_with('.')) essence.pop_back();
    return absl::Status(known.code, fmt::format("{}: {}", essence, known.text));
  }
  const std::string essence = Essence(said, "");
  return absl::FailedPreconditionError(essence.empty() ? "gcloud failed and does not say why"
                                                       : essence);
}

}  // namespace muster::cluster
