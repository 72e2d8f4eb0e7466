#include "cluster/gcp_provider.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "cluster/gcp_machines.h"

namespace muster::cluster {
namespace {

constexpr size_t kBatch = 500;  // machines of one delete
constexpr int64_t kTimeoutMs = 90'000;
constexpr int64_t kImageMs = 1'800'000, kLookMs = 5'000;

// GPUs of machines that are no spot machines.
int64_t GpusOnDemand(const MachineOrder& order) {
  int64_t gpus = 0;
  for (const MachineGroup& group : order.groups) gpus += group.spot ? 0 : group.count * group.gpus;
  return gpus;
}

}  // namespace

GcpProvider::GcpProvider(Gcp gcp, std::string public_key, ToolRunner tools,
                         const Patience& patience, std::function<RunHost(const SshHost&)> reach,
                         Shortcuts shortcuts)
    : gcp_(std::move(gcp)),
      patience_(patience),
      public_key_(std::move(public_key)),
      tool_(std::move(tools), patience, JudgeGcloud,
            "there is no program gcloud in PATH: install Google Cloud's command line, and log in "
            "(gcloud auth login)",
            kTimeoutMs, std::move(shortcuts)),
      reach_(std::move(reach)) {
  regions_.assign(gcp_.regions().begin(), gcp_.regions().end());
  for (const std::string& zone : gcp_.zones()) {
    places_.push_back({GceRegionOf(zone), zone});
    if (std::ranges::count(regions_, places_.back().region) == 0) {
      regions_.push_back(places_.back().region);
    }
  }
}

absl::StatusOr<std::string> GcpProvider::Ask(const std::vector<std::string>& words) const {
  ASSIGN_OR_RETURN(ToolResult result, tool_.Ask(words));
  return std::move(result.out);
}

GcpProvider::Fact GcpProvider::ImageFact() const {
  return {
      fmt::format("gce_image_{}_{}_{}", gcp_.image_project(), gcp_.image_family(), gcp_.image()),
      DescribeImageWords(gcp_)};
}

GcpProvider::Fact GcpProvider::MachineTypesFact(const std::vector<Place>& candidates,
                                                const MachineOrder& order) const {
  std::vector<std::string> zones;
  for (const Place& place : candidates) zones.push_back(place.zone);
  std::set<std::string> types;
  for (const MachineGroup& group : order.groups) types.insert(group.type);
  return {fmt::format("gce_zones_{}_{}_{}", gcp_.project(), fmt::join(zones, "_"),
                      fmt::join(types, "_")),
          MachineTypesWords(gcp_, order.groups, zones)};
}

void GcpProvider::BeginCheck(const MachineOrder& order) const {
  for (const std::string& name : regions_) tool_.Begin(DescribeRegionWords(gcp_, name));
  if (GpusOnDemand(order) > 0) tool_.Begin(DescribeProjectWords(gcp_));
  const Fact image = ImageFact();
  tool_.BeginForTheDay(image.name, image.words);
}

std::string GcpProvider::AskForMore(const std::string& metric, const std::string& region,
                                    double value) const {
  std::string id = metric;
  std::ranges::replace(id, '_', '-');
  return fmt::format(
      "; ask for more: gcloud beta quotas preferences create --service=compute.googleapis.com "
      "--project={} --quota-id={}-per-project{} --preferred-value={}",
      gcp_.project().empty() ? "PROJECT" : gcp_.project(), id,
      region.empty() ? "" : fmt::format("-region --dimensions=region={}", region), value);
}

std::vector<std::string> GcpProvider::ProjectQuota(const MachineOrder& order, bool* enough) const {
  const int64_t need = GpusOnDemand(order);
  if (need == 0) return {};
  const auto text = Ask(DescribeProjectWords(gcp_));
  if (IsUnasked(text.status())) return {};
  const char* const metric = kGceGpuQuotaOfAllRegions;
  const auto quotas = text.ok() ? ParseGceProject(*text) : text.status();
  if (!quotas.ok() || !quotas->contains(metric)) {
    return {fmt::format("quota not known: {} ({} needed){}{}", metric, need,
                        quotas.ok() ? "" : ": ", std::string(quotas.status().message()))};
  }
  const auto& [limit, usage] = quotas->at(metric);
  std::string line = fmt::format("the project: quota {}: {} of {} free, {} needed", metric,
                                 limit - usage, limit, need);
  *enough = limit - usage >= static_cast<double>(need);
  if (!*enough) line += AskForMore(metric, "", usage + static_cast<double>(need));
  return {line};
}

absl::Status GcpProvider::CheckImage() const {
  const Fact fact = ImageFact();
  const auto about = tool_.AskForTheDay(fact.name, fact.words);
  if (IsUnasked(about.status())) return absl::OkStatus();
  RETURN_IF_ERROR(about.status());
  if (about->find("X86_64") != std::string::npos) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "{} is no image for x86_64, which this build is for: see cluster.gcp.image and imageFamily",
      about->substr(0, about->find_first_of("\t\n"))));
}

std::vector<std::string> GcpProvider::Quotas(const std::string& name, const GceRegion& region,
                                             const MachineOrder& order, bool* enough) const {
  std::map<std::string, int64_t> needs;  // by metric
  for (const MachineGroup& group : order.groups) {
    // Spot machines count in a quota of their own where the project has one.
    const auto metric = [&](const std::string& cpus_or_gpus, const std::string& of_spot) {
      const auto own = region.quotas.find(of_spot);
      const bool has = group.spot && own != region.quotas.end() && own->second.limit > 0;
      return has ? of_spot : cpus_or_gpus;
    };
    needs[metric(GceCpuQuota(group.type, region), "PREEMPTIBLE_CPUS")] += group.count * group.vcpus;
    if (group.gpus > 0) {
      const std::string gpus = GceGpuQuota(group.accelerator);
      needs[metric(gpus, "PREEMPTIBLE_" + gpus)] += group.count * group.gpus;
    }
  }
  std::vector<std::string> lines;
  for (const auto& [metric, need] : needs) {
    const auto quota = region.quotas.find(metric);
    if (quota == region.quotas.end()) {
      lines.push_back(fmt::format("{}: quota not known: {} ({} needed)", name, metric, need));
      continue;
    }
    const auto& [limit, usage] = quota->second;
    lines.push_back(fmt::format("{}: quota {}: {} of {} free, {} needed", name, metric,
                                limit - usage, limit, need));
    if (limit - usage >= static_cast<double>(need)) continue;
    *enough = false;
    lines.back() += AskForMore(metric, name, usage + static_cast<double>(need));
  }
  return lines;
}

absl::StatusOr<std::vector<Place>> GcpProvider::Having(const std::vector<Place>& candidates,
                                                       const MachineOrder& order) const {
  std::set<std::string> types;
  for (const MachineGroup& group : order.groups) types.insert(group.type);
  const Fact fact = MachineTypesFact(candidates, order);
  const auto text = tool_.AskForTheDay(fact.name, fact.words);
  if (IsUnasked(text.status())) return candidates;
  RETURN_IF_ERROR(text.status());
  std::map<std::string, std::set<std::string>> offered;  // by zone
  for (const std::string& line : Lines(*text)) {
    const std::vector<std::string> cells = absl::StrSplit(line, '\t');
    if (cells.size() == 2) offered[cells[1]].insert(cells[0]);
  }
  std::vector<Place> having;
  for (const Place& place : candidates) {
    if (std::ranges::includes(offered[place.zone], types)) having.push_back(place);
  }
  return having;
}

absl::StatusOr<std::vector<std::string>> GcpProvider::Check(const MachineOrder& order) {
  BeginCheck(order);
  bool enough_gpus = true;
  std::vector<std::string> lines = ProjectQuota(order, &enough_gpus);
  std::vector<Place> candidates;
  for (const std::string& name : regions_) {
    const auto text = Ask(DescribeRegionWords(gcp_, name));
    if (!text.ok() && !IsUnasked(text.status())) return text.status();
    GceRegion region{.zones = {"$ZONE"}};
    if (text.ok()) {
      ASSIGN_OR_RETURN(region, ParseGceRegion(*text));
    }
    bool enough = enough_gpus;
    for (std::string& line : Quotas(name, region, order, &enough)) {
      lines.push_back(std::move(line));
    }
    if (!enough) continue;
    for (const std::string& zone : region.zones) {
      if (gcp_.zones().empty()) candidates.push_back({name, zone});
    }
    for (const std::string& zone : gcp_.zones()) {
      if (GceRegionOf(zone) == name) candidates.push_back({name, zone});
    }
  }
  std::vector<Place> places;
  if (!candidates.empty()) {
    RETURN_IF_ERROR(CheckImage());
    ASSIGN_OR_RETURN(places, Having(candidates, order));
    if (places.empty()) lines.emplace_back("no zone has all of these machine types");
  }
  if (places.empty()) {
    return absl::FailedPreconditionError(
        fmt::format("no place for these machines: write other types, or cluster.gcp.regions\n{}",
                    fmt::join(lines, "\n")));
  }
  places_ = std::move(places);
  return lines;
}

absl::Status GcpProvider::CreateGroup(
    const MachineOrder& order, const MachineGroup& group,
    const std::function<absl::Status(const std::string& name)>& before) const {
  const auto answer = tool_.Ask(BulkCreateWords(gcp_, order, group, public_key_),
                                [&] { return before(GceNames(order, group).front()); });
  const absl::Status& made = answer.status();
  if (answer.ok()) {
    // With another format than its own it is silent about refusals, too.
    if (answer->err.find("finished with status") != std::string::npos) return absl::OkStatus();
    return absl::InternalError(
        "gcloud does not say what became of the machines: gcloud config unset core/default_format");
  }
  // An earlier call was done, and its answer lost: nobody else gives such names.
  if (IsUnasked(made) || absl::IsAlreadyExists(made)) return absl::OkStatus();
  if (made.code() != kNoRoomInZone && made.code() != kNoQuotaInRegion) return made;
  // What a refused call has begun with is being taken back; not to hope for it, but to know.
  const absl::Status ended = Delete(order.place.zone, GceNames(order, group));
  return ended.ok() ? made : absl::UnavailableError(ended.message());
}

absl::Status GcpProvider::Create(
    const MachineOrder& order, const std::function<absl::Status(const std::string& name)>& before) {
  for (const MachineGroup& group : order.groups) {
    RETURN_IF_ERROR(CreateGroup(order, group, before));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Machine>> GcpProvider::List(const std::string& job_id) {
  ASSIGN_OR_RETURN(const std::string text, Ask(ListInstancesWords(gcp_, job_id)));
  ASSIGN_OR_RETURN(std::vector<Machine> machines, ParseGceInstances(text));
  // Labels are not as exact as ids (GceJobLabel).
  std::erase_if(machines, [&](const Machine& machine) {
    return !job_id.empty() && machine.job_id != job_id;
  });
  return machines;
}

absl::Status GcpProvider::Delete(const std::string& zone,
                                 const std::vector<std::string>& names) const {
  return Tell({"delete"}, zone, names);
}

absl::Status GcpProvider::Tell(const std::vector<std::string>& command, const std::string& zone,
                               const std::vector<std::string>& names) const {
  for (size_t i = 0; i < names.size(); i += kBatch) {
    std::vector<std::string> words = {"compute", "instances"};
    words.insert(words.end(), command.begin(), command.end());
    words.push_back("--zone=" + zone);
    words.insert(words.end(), names.begin() + static_cast<ptrdiff_t>(i),
                 names.begin() + static_cast<ptrdiff_t>(std::min(names.size(), i + kBatch)));
    const absl::Status told = Ask(GcloudWords(gcp_, words)).status();
    // The others of the call are told all the same.
    if (!told.ok() && !IsUnasked(told) && !absl::IsNotFound(told)) return told;
  }
  return absl::OkStatus();
}

absl::Status GcpProvider::Stop(const std::string& job_id) {
  const std::vector<std::string> stop = {"stop", "--async"};
  const auto machines = List(job_id);
  if (IsUnasked(machines.status())) return Tell(stop, "$ZONE", {"$NAMES"});
  RETURN_IF_ERROR(machines.status());
  std::map<std::string, std::vector<std::string>> stay, go;  // by zone
  for (const Machine& machine : *machines) {
    if (machine.state != MachineState::kRunning && machine.state != MachineState::kPending) {
      continue;
    }
    (machine.spot ? go : stay)[machine.place.zone].push_back(machine.id);
  }
  for (const auto& [zone, names] : stay) RETURN_IF_ERROR(Tell(stop, zone, names));
  for (const auto& [zone, names] : go) RETURN_IF_ERROR(Delete(zone, names));
  return absl::OkStatus();
}

absl::Status GcpProvider::Destroy(const std::string& job_id) {
  const auto machines = List(job_id);
  if (IsUnasked(machines.status())) return Delete("$ZONE", {"$NAMES"});
  RETURN_IF_ERROR(machines.status());
  std::map<std::string, std::vector<std::string>> names;  // by zone
  for (const Machine& machine : *machines) {
    if (machine.state != MachineState::kGone) names[machine.place.zone].push_back(machine.id);
  }
  for (const auto& [zone, all] : names) RETURN_IF_ERROR(Delete(zone, all));
  return absl::OkStatus();
}

absl::Status GcpProvider::End(const Machine& machine) {
  return Delete(machine.place.zone, {machine.id});
}

absl::StatusOr<std::string> GcpProvider::MakeImage(const Machine& machine,
                                                   const std::string& name) {
  const int64_t until = patience_.now_ms() + kImageMs;
  for (;;) {
    // gcloud waits until it is there. A machine that still stops holds its disk.
    const absl::Status made = Ask(CreateImageWords(gcp_, machine, name)).status();
    if (made.ok() || IsUnasked(made) || absl::IsAlreadyExists(made)) return name;
    if (!absl::IsUnavailable(made) || patience_.now_ms() > until) return made;
    if (!patience_.pause(kLookMs)) {
      return absl::CancelledError(fmt::format("interrupted; image {} may be made", name));
    }
  }
}

absl::StatusOr<std::vector<KeptImage>> GcpProvider::Images(const std::string& name) {
  ASSIGN_OR_RETURN(const std::string text, Ask(ListImagesWords(gcp_, name)));
  return ParseGceImages(text);
}

absl::Status GcpProvider::DeleteImage(const KeptImage& image) {
  const absl::Status gone =
      Ask(GcloudWords(gcp_, {"compute", "images", "delete", image.id})).status();
  // An earlier call was done, and its answer lost.
  const bool was = gone.message().find("was not found") != absl::string_view::npos;
  return was ? absl::OkStatus() : gone;
}

std::string GcpProvider::ImageFields(const Machine&, const std::string& image) const {
  return fmt::format("gcp: {{image: {}, imageProject: {}}}", image,
                     gcp_.project().empty() ? "PROJECT" : gcp_.project());
}

std::string GcpProvider::DeleteImageCommand(const Machine&, const std::string& image) const {
  return fmt::format("{} compute images delete {}",
                     gcp_.project().empty() ? "gcloud" : "gcloud --project=" + gcp_.project(),
                     image);
}

absl::StatusOr<RunHost> GcpProvider::Reach(const Machine& machine) {
  return ReachMachine(machine, *SshHostOf(machine), reach_);
}

std::optional<SshHost> GcpProvider::SshHostOf(const Machine& machine) const {
  return SshHostAt(machine, gcp_.user().empty() ? "muster" : gcp_.user());
}

std::string GcpProvider::ListCommand(const std::string& job_id) const {
  return fmt::format("{} compute instances list --filter=labels.muster-job={}",
                     gcp_.project().empty() ? "gcloud" : "gcloud --project=" + gcp_.project(),
                     GceJobLabel(job_id));
}

}  // namespace muster::cluster
