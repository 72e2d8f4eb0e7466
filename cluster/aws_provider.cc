#include "cluster/aws_provider.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "cluster/aws_image.h"
#include "cluster/aws_machines.h"
#include "cluster/aws_prices.h"

namespace muster::cluster {
namespace {

// terminate-instances takes no more than a thousand.
constexpr size_t kBatch = 500;
constexpr char kTerminate[] = "terminate-instances",
               kTerminating[] = "length(TerminatingInstances)";
constexpr int64_t kTimeoutMs = 90'000;
constexpr int64_t kHourMs = 3'600'000;
constexpr char kGroupName[] = "muster";
constexpr char kDebian[] = "resolve:ssm:/aws/service/debian/release/12/latest/amd64";
constexpr std::string_view kResolve = "resolve:ssm:";

std::string Trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text == "None" ? "" : text;
}

std::set<std::string> TypesOf(const MachineOrder& order) {
  std::set<std::string> types;
  for (const MachineGroup& group : order.groups) types.insert(group.type);
  return types;
}

std::set<std::string> SpotTypesOf(const MachineOrder& order) {
  std::set<std::string> types;
  for (const MachineGroup& group : order.groups) {
    if (group.spot) types.insert(group.type);
  }
  return types;
}

struct QuotaNeed {
  Ec2Quota quota;
  int64_t vcpus = 0;
};
std::map<std::string, QuotaNeed> NeedsOf(const MachineOrder& order) {
  std::map<std::string, QuotaNeed> needs;  // by code
  for (const MachineGroup& group : order.groups) {
    const Ec2Quota quota = Ec2QuotaOf(group.type, group.spot);
    QuotaNeed& need = needs[quota.code];
    need.quota = quota;
    need.vcpus += group.count * group.vcpus;
  }
  return needs;
}

}  // namespace

AwsProvider::AwsProvider(Aws aws, std::string public_key, ToolRunner tools,
                         const Patience& patience, std::function<RunHost(const SshHost&)> reach,
                         Shortcuts shortcuts)
    : aws_(std::move(aws)),
      patience_(patience),
      public_key_(std::move(public_key)),
      tool_(std::move(tools), patience, JudgeAws,
            "there is no program aws in PATH: install AWS's command line, and log in (aws "
            "configure)",
            kTimeoutMs, std::move(shortcuts)),
      reach_(std::move(reach)) {
  regions_.assign(aws_.regions().begin(), aws_.regions().end());
  for (const std::string& zone : aws_.zones()) {
    places_.push_back({Ec2RegionOf(zone), zone});
    if (std::ranges::count(regions_, places_.back().region) == 0) {
      regions_.push_back(places_.back().region);
    }
  }
  if (regions_.empty()) regions_.emplace_back();
  if (places_.empty()) {
    for (const std::string& r : regions_) places_.push_back({r, ""});
  }
}

absl::StatusOr<std::string> AwsProvider::Ask(const std::vector<std::string>& words) const {
  ASSIGN_OR_RETURN(ToolResult result, tool_.Ask(words));
  return std::move(result.out);
}

absl::StatusOr<std::string> AwsProvider::Ask(const std::string& region,
                                             std::vector<std::string> words) const {
  return Ask(Words(region, std::move(words)));
}

std::vector<std::string> AwsProvider::Words(const std::string& region,
                                            std::vector<std::string> words) const {
  std::vector<std::string> all = AwsWords(aws_, region);
  std::ranges::move(words, std::back_inserter(all));
  return all;
}

AwsProvider::Fact AwsProvider::FactOf(const std::string& region, const std::string& about,
                                      std::vector<std::string> words) const {
  std::string name = fmt::format("ec2_{}_{}_{}", aws_.profile(), region, about);
  std::ranges::replace(name, '/', '_');
  // Which region the login's own is may change.
  return {region.empty() ? "" : name, Words(region, std::move(words))};
}

AwsProvider::Fact AwsProvider::OfferingsFact(const std::string& region,
                                             const MachineOrder& order) const {
  const std::set<std::string> types = TypesOf(order);
  return FactOf(region, fmt::format("zones_{}", fmt::join(types, "_")),
                {"ec2", "describe-instance-type-offerings", "--location-type", "availability-zone",
                 "--filters", fmt::format("Name=instance-type,Values={}", fmt::join(types, ",")),
                 "--query", "InstanceTypeOfferings[].[InstanceType,Location]"});
}

AwsProvider::Fact AwsProvider::ImageIdFact(const std::string& region,
                                           const std::string& parameter) const {
  return FactOf(region, "image" + parameter,
                {"ssm", "get-parameter", "--name", parameter, "--query", "Parameter.Value"});
}

AwsProvider::Fact AwsProvider::ImageFact(const std::string& region, const std::string& id) const {
  return FactOf(region, "about_" + id,
                {"ec2", "describe-images", "--image-ids", id, "--query",
                 "Images[0].[RootDeviceName,Architecture]"});
}

std::vector<std::string> AwsProvider::QuotaWords(const std::string& region,
                                                 const std::string& code) const {
  return Words(region, {"service-quotas", "get-service-quota", "--service-code", "ec2",
                        "--quota-code", code, "--query", "Quota.Value"});
}

absl::StatusOr<const AwsProvider::Image*> AwsProvider::ImageIn(const std::string& region) {
  if (const auto known = images_.find(region); known != images_.end()) return &known->second;
  std::string id = aws_.image().empty() ? kDebian : aws_.image();
  if (id.starts_with(kResolve)) {
    const Fact fact = ImageIdFact(region, id.substr(kResolve.size()));
    const auto found = tool_.AskForTheDay(fact.name, fact.words);
    if (!found.ok() && !IsUnasked(found.status())) return found.status();
    id = found.ok() ? Trimmed(*found) : "$IMAGE";
  }
  const Fact fact = ImageFact(region, id);
  const auto about = tool_.AskForTheDay(fact.name, fact.words);
  if (IsUnasked(about.status())) return &(images_[region] = {id, "$ROOT_DEVICE"});
  RETURN_IF_ERROR(about.status());
  const std::vector<std::string> cells = absl::StrSplit(Trimmed(*about), '\t');
  if (cells.size() != 2 || cells[1] != "x86_64") {
    return absl::FailedPreconditionError(
        fmt::format("{}: {} is no image for x86_64, which this build is for: see cluster.aws.image",
                    region, id));
  }
  return &images_.emplace(region, Image{id, cells[0]}).first->second;
}

absl::StatusOr<std::vector<std::string>> AwsProvider::GroupsIn(const std::string& region) {
  if (aws_.security_groups_size() > 0) {
    return std::vector<std::string>(aws_.security_groups().begin(), aws_.security_groups().end());
  }
  if (const auto known = groups_.find(region); known != groups_.end()) return known->second;
  const auto asked = aws_.subnet().empty()
                         ? Ask(region, {"ec2", "describe-vpcs", "--filters",
                                        "Name=is-default,Values=true", "--query", "Vpcs[0].VpcId"})
                         : Ask(region, {"ec2", "describe-subnets", "--subnet-ids", aws_.subnet(),
                                        "--query", "Subnets[0].VpcId"});
  if (!asked.ok() && !IsUnasked(asked.status())) return asked.status();
  const std::string network = asked.ok() ? Trimmed(*asked) : "$NETWORK";
  if (network.empty()) {
    return absl::FailedPreconditionError(fmt::format(
        "{} has no default network: write cluster.aws.subnet and securityGroups", region));
  }
  // One for all jobs of a network, made once: whatever is made for each job can be left behind.
  const std::vector<std::string> find = {"ec2",
                                         "describe-security-groups",
                                         "--filters",
                                         fmt::format("Name=group-name,Values={}", kGroupName),
                                         fmt::format("Name=vpc-id,Values={}", network),
                                         "--query",
                                         "SecurityGroups[0].[GroupId,length(IpPermissions)]"};
  const auto found = Ask(region, find);
  if (IsUnasked(found.status())) return std::vector<std::string>{"$GROUP"};
  RETURN_IF_ERROR(found.status());
  std::vector<std::string> cells = absl::StrSplit(Trimmed(*found), '\t');
  // Another launcher may have ended between group and rules.
  if (cells.size() == 2 && cells[1] == "2") return groups_[region] = {cells[0]};
  std::string group = cells[0] == "None" ? "" : cells[0];
  if (group.empty()) {
    const auto made = Ask(region, {"ec2", "create-security-group", "--group-name", kGroupName,
                                   "--description", "ssh, and all between its machines (Muster)",
                                   "--vpc-id", network, "--query", "GroupId"});
    if (!made.ok() && !absl::IsAlreadyExists(made.status())) return made.status();
    ASSIGN_OR_RETURN(const std::string again, Ask(region, find));
    cells = absl::StrSplit(Trimmed(again), '\t');
    group = cells[0];
  }
  for (const std::vector<std::string>& rule :
       {std::vector<std::string>{"--protocol", "tcp", "--port", "22", "--cidr", "0.0.0.0/0"},
        std::vector<std::string>{"--protocol", "-1", "--source-group", group}}) {
    std::vector<std::string> words = {"ec2", "authorize-security-group-ingress", "--group-id",
                                      group};
    words.insert(words.end(), rule.begin(), rule.end());
    const auto ruled = Ask(region, words);
    if (!ruled.ok() && !absl::IsAlreadyExists(ruled.status())) return ruled.status();
  }
  return groups_[region] = {group};
}

absl::StatusOr<std::set<std::string>> AwsProvider::ZonesWith(const std::string& region,
                                                             const MachineOrder& order) const {
  const size_t types = TypesOf(order).size();
  const Fact fact = OfferingsFact(region, order);
  ASSIGN_OR_RETURN(const std::string text, tool_.AskForTheDay(fact.name, fact.words));
  std::map<std::string, size_t> offered;  // by zone: types
  for (const std::string& line : Lines(text)) {
    const std::vector<std::string> cells = absl::StrSplit(line, '\t');
    if (cells.size() == 2) ++offered[cells[1]];
  }
  std::set<std::string> zones;
  for (const auto& [zone, count] : offered) {
    if (count >= types) zones.insert(zone);
  }
  return zones;
}

std::vector<std::string> AwsProvider::Quotas(const std::string& region, const MachineOrder& order,
                                             bool* enough) const {
  std::vector<std::string> lines;
  for (const auto& [code, need] : NeedsOf(order)) {
    const auto text = Ask(QuotaWords(region, code));
    double have = 0;
    if (!text.ok() || !absl::SimpleAtod(Trimmed(*text), &have)) {
      lines.push_back(fmt::format("{}: quota not known: {} ({} vCPUs needed)", region,
                                  need.quota.name, need.vcpus));
      continue;
    }
    lines.push_back(fmt::format("{}: quota {}: {} vCPUs, {} needed", region, need.quota.name, have,
                                need.vcpus));
    if (have >= static_cast<double>(need.vcpus)) continue;
    *enough = false;
    lines.back() += fmt::format(
        "; ask for more: aws service-quotas request-service-quota-increase --region {} "
        "--service-code ec2 --quota-code {} --desired-value {}",
        region, code, need.vcpus);
  }
  return lines;
}

absl::StatusOr<std::vector<RegionPrice>> AwsProvider::OnDemandPrices(
    const std::set<std::string>& types) {
  ASSIGN_OR_RETURN(const std::string text, Ask(OnDemandPriceWords(aws_, types)));
  return ParseOnDemandPrices(text);
}

void AwsProvider::BeginPrices(const std::set<std::string>& on_demand,
                              const std::set<std::string>& spot) {
  if (!tool_.begins()) return;
  if (!on_demand.empty()) tool_.Begin(OnDemandPriceWords(aws_, on_demand));
  if (spot.empty()) return;
  for (const std::string& region : regions_) {
    tool_.Begin(SpotPriceWords(aws_, region, spot, SinceMs()));
  }
}

absl::StatusOr<std::vector<SpotPrice>> AwsProvider::SpotPrices(const std::set<std::string>& types) {
  std::vector<SpotPrice> all;
  BeginPrices({}, types);
  for (const std::string& region : regions_) {
    ASSIGN_OR_RETURN(const std::string text, Ask(SpotPriceWords(aws_, region, types, SinceMs())));
    ASSIGN_OR_RETURN(std::vector<SpotPrice> prices, ParseSpotPrices(text));
    std::ranges::move(prices, std::back_inserter(all));
  }
  return all;
}

int64_t AwsProvider::SinceMs() const {
  // The same words within the hour, so that what was begun is found.
  return (patience_.now_ms() - kDayMs) / kHourMs * kHourMs;
}

void AwsProvider::CheapestFirst(const MachineOrder& order, std::vector<Place>* places) {
  const std::set<std::string> types = SpotTypesOf(order);
  if (types.empty()) return;
  const auto prices = SpotPrices(types);
  if (!prices.ok() || !aws_.zones().empty()) return;
  std::map<std::string, double> cost;  // by zone
  for (const Place& place : *places) {
    for (const MachineGroup& group : order.groups) {
      if (!group.spot) continue;
      const auto price = PriceAt(*prices, group.type, place.zone, patience_.now_ms());
      cost[place.zone] += price ? static_cast<double>(group.count) * price->usd_per_hour
                                : std::numeric_limits<double>::infinity();
    }
  }
  // Regions stay in their order.
  for (auto from = places->begin(); from != places->end();) {
    const auto to = std::find_if(from, places->end(),
                                 [&](const Place& place) { return place.region != from->region; });
    std::stable_sort(from, to,
                     [&](const Place& a, const Place& b) { return cost[a.zone] < cost[b.zone]; });
    from = to;
  }
}

absl::Status AwsProvider::MayCreate(const MachineOrder& order) {
  ASSIGN_OR_RETURN(const Image* image, ImageIn(order.place.region));
  const Ec2Launch launch{.image = image->id,
                         .root_device = image->root_device,
                         .first_script = UserDataOf(aws_, public_key_, order.lifetime_s),
                         .ask_alone = true};
  std::vector<std::vector<std::string>> questions;
  for (const MachineGroup& group : order.groups) {
    if (&group != &order.groups.front() && !group.spot) continue;
    questions.push_back(RunInstancesWords(aws_, order, group, launch));
    tool_.Begin(questions.back());
  }
  for (const std::vector<std::string>& question : questions) {
    const absl::Status asked = Ask(question).status();
    // What would have been allowed is told as an error, too.
    const bool allowed = asked.ok() || IsUnasked(asked) ||
                         asked.message().find("DryRunOperation") != std::string::npos;
    if (!allowed) return asked;
  }
  return absl::OkStatus();
}

void AwsProvider::BeginCheck(const MachineOrder& order) {
  for (const std::string& region : regions_) {
    const Fact offerings = OfferingsFact(region, order);
    tool_.BeginForTheDay(offerings.name, offerings.words);
    for (const auto& [code, need] : NeedsOf(order)) tool_.Begin(QuotaWords(region, code));
  }
  const std::string image = aws_.image().empty() ? kDebian : aws_.image();
  const Fact fact = image.starts_with(kResolve)
                        ? ImageIdFact(regions_.front(), image.substr(kResolve.size()))
                        : ImageFact(regions_.front(), image);
  tool_.BeginForTheDay(fact.name, fact.words);
  BeginPrices({}, SpotTypesOf(order));
}

absl::StatusOr<std::vector<std::string>> AwsProvider::Check(const MachineOrder& order) {
  BeginCheck(order);
  std::vector<std::string> lines;
  std::vector<Place> places;
  for (const std::string& region : regions_) {
    const auto having = ZonesWith(region, order);
    if (!having.ok() && !IsUnasked(having.status())) return having.status();
    const std::set<std::string> zones = having.ok() ? *having : std::set<std::string>{"$ZONE"};
    bool enough = true;
    for (std::string& line : Quotas(region, order, &enough)) lines.push_back(std::move(line));
    if (!enough) continue;
    for (const std::string& zone : zones) {
      const Place place{region, zone};
      if (aws_.zones().empty()) places.push_back(place);
    }
    for (const std::string& zone : aws_.zones()) {
      if (zones.contains(zone)) places.push_back({region, zone});
    }
    if (zones.empty()) {
      lines.push_back(fmt::format("{}: no zone has all of these machine types", region));
    }
  }
  if (places.empty()) {
    return absl::FailedPreconditionError(
        fmt::format("no place for these machines: write other types, or cluster.aws.regions\n{}",
                    fmt::join(lines, "\n")));
  }
  CheapestFirst(order, &places);
  places_ = std::move(places);
  MachineOrder first = order;
  first.place = places_.front();
  RETURN_IF_ERROR(deadlines_.Check(first.place.region, order.job_id));
  RETURN_IF_ERROR(MayCreate(first));
  return lines;
}

absl::Status AwsProvider::Create(
    const MachineOrder& order, const std::function<absl::Status(const std::string& name)>& before) {
  const std::string& region = order.place.region;
  ASSIGN_OR_RETURN(const Image* image, ImageIn(region));
  ASSIGN_OR_RETURN(std::vector<std::string> groups, GroupsIn(region));
  const Ec2Launch launch{.image = image->id,
                         .root_device = image->root_device,
                         .security_groups = std::move(groups),
                         .first_script = UserDataOf(aws_, public_key_, order.lifetime_s)};
  for (const MachineGroup& group : order.groups) {
    const auto made = tool_.Ask(RunInstancesWords(aws_, order, group, launch),
                                [&] { return before(Ec2Token(order, group)); });
    if (!made.ok() && !IsUnasked(made.status())) return made.status();
    std::vector<std::string> ids = {"$ID"};
    if (made.ok()) ids = absl::StrSplit(Trimmed(made->out), absl::ByAnyChar("\t\n"));
    RETURN_IF_ERROR(deadlines_.Set(order, ids, before));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Machine>> AwsProvider::List(const std::string& job_id) {
  std::vector<Machine> all;
  for (const std::string& region : regions_) {
    tool_.Begin(DescribeInstancesWords(aws_, region, job_id));
  }
  for (const std::string& region : regions_) {
    ASSIGN_OR_RETURN(const std::string text, Ask(DescribeInstancesWords(aws_, region, job_id)));
    ASSIGN_OR_RETURN(std::vector<Machine> machines, ParseInstances(text, region));
    std::ranges::move(machines, std::back_inserter(all));
  }
  return all;
}

absl::Status AwsProvider::Destroy(const std::string& job_id) {
  const auto machines = List(job_id);
  if (!machines.ok() && !IsUnasked(machines.status())) return machines.status();
  for (const std::string& region : regions_) {
    std::vector<std::string> ids;
    if (!machines.ok()) ids.emplace_back("$IDS");
    for (const Machine& machine : machines.ok() ? *machines : std::vector<Machine>()) {
      if (machine.place.region == region && machine.state != MachineState::kGone) {
        ids.push_back(machine.id);
      }
    }
    RETURN_IF_ERROR(Tell(region, kTerminate, kTerminating, ids));
    RETURN_IF_ERROR(deadlines_.Remove(region, job_id));
  }
  return absl::OkStatus();
}

absl::Status AwsProvider::Tell(const std::string& region, const char* command, const char* query,
                               const std::vector<std::string>& ids) const {
  for (size_t i = 0; i < ids.size(); i += kBatch) {
    std::vector<std::string> words = {"ec2", command, "--query", query, "--instance-ids"};
    words.insert(words.end(), ids.begin() + static_cast<ptrdiff_t>(i),
                 ids.begin() + static_cast<ptrdiff_t>(std::min(ids.size(), i + kBatch)));
    const absl::Status told = Ask(region, std::move(words)).status();
    if (!told.ok() && !IsUnasked(told)) return told;
  }
  return absl::OkStatus();
}

absl::Status AwsProvider::Stop(const std::string& job_id) {
  const auto machines = List(job_id);
  if (!machines.ok() && !IsUnasked(machines.status())) return machines.status();
  for (const std::string& region : regions_) {
    std::vector<std::string> stay, go;
    if (!machines.ok()) stay.emplace_back("$IDS");
    for (const Machine& machine : machines.ok() ? *machines : std::vector<Machine>()) {
      const bool runs =
          machine.state == MachineState::kRunning || machine.state == MachineState::kPending;
      // EC2 stops no spot machine that was asked for once.
      if (runs && machine.place.region == region) (machine.spot ? go : stay).push_back(machine.id);
    }
    RETURN_IF_ERROR(Tell(region, "stop-instances", "length(StoppingInstances)", stay));
    RETURN_IF_ERROR(Tell(region, kTerminate, kTerminating, go));
    RETURN_IF_ERROR(deadlines_.Remove(region, job_id));
  }
  return absl::OkStatus();
}

absl::Status AwsProvider::End(const Machine& machine) {
  return Tell(machine.place.region, kTerminate, kTerminating, {machine.id});
}

absl::StatusOr<std::string> AwsProvider::MakeImage(const Machine& machine,
                                                   const std::string& name) {
  return MakeEc2Image(aws_, tool_, patience_, machine, name);
}

absl::StatusOr<std::vector<KeptImage>> AwsProvider::Images(const std::string& name) {
  std::vector<KeptImage> all;
  for (const std::string& region : regions_) {
    ASSIGN_OR_RETURN(std::vector<KeptImage> images, FindEc2Images(aws_, tool_, region, name));
    std::ranges::move(images, std::back_inserter(all));
  }
  return all;
}

absl::Status AwsProvider::DeleteImage(const KeptImage& image) {
  return DeleteEc2Image(aws_, tool_, image);
}

std::string AwsProvider::ImageFields(const Machine& machine, const std::string& image) const {
  return fmt::format("aws: {{regions: [{}], image: {}}}", machine.place.region, image);
}

std::string AwsProvider::DeleteImageCommand(const Machine& machine,
                                            const std::string& image) const {
  return fmt::format(
      "aws ec2 deregister-image --delete-associated-snapshots --region {} --image-id {}",
      machine.place.region, image);
}

absl::StatusOr<RunHost> AwsProvider::Reach(const Machine& machine) {
  return ReachMachine(machine, *SshHostOf(machine), reach_);
}

std::optional<SshHost> AwsProvider::SshHostOf(const Machine& machine) const {
  return SshHostAt(machine, aws_.user().empty() ? "admin" : aws_.user());
}

std::string AwsProvider::ListCommand(const std::string& job_id) const {
  return fmt::format("aws ec2 describe-instances --region {} --filters Name=tag:{},Values={}",
                     fmt::join(regions_, " "), kAwsJobTag, job_id);
}

}  // namespace muster::cluster
