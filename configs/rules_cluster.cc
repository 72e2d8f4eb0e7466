#include <absl/strings/ascii.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "configs/rule_reporter.h"
#include "configs/rules.h"
#include "configs/scalar.h"

namespace muster {
namespace {

// arn:PARTITION:iam::ACCOUNT:role/NAME
bool IsRole(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ':');
  if (parts.size() != 6 || parts[0] != "arn" || parts[2] != "iam" || !parts[3].empty())
    return false;
  const std::string &partition = parts[1], &account = parts[4], &name = parts[5];
  const auto in_partition = [](char c) { return absl::ascii_islower(c) || c == '-'; };
  const auto in_name = [](char c) {
    return absl::ascii_isalnum(c) || std::string_view("_+=,.@/-").find(c) != std::string_view::npos;
  };
  return partition.starts_with("aws") && std::ranges::all_of(partition, in_partition) &&
         account.size() == 12 && std::ranges::all_of(account, absl::ascii_isdigit) &&
         name.starts_with("role/") && name.size() > 5 && std::ranges::all_of(name, in_name);
}

void CheckSsh(JobDraft* draft) {
  const Cluster& cluster = draft->job.cluster();
  const Ssh& ssh = cluster.ssh();
  RuleReporter report("cluster.ssh", draft);
  if (cluster.provider() != Cluster::SSH) {
    if (cluster.has_ssh()) {
      report.Add("", "only provider SSH uses it", "write provider: SSH, or delete it");
    }
    return;
  }
  if (ssh.hosts().empty()) {
    report.Add("hosts", "required by provider SSH: where the roles run",
               "write hosts: [{host: NAME}, …]");
  }
  for (int i = 0; i < ssh.hosts_size(); ++i) {
    const SshHost& host = ssh.hosts(i);
    const std::string path = fmt::format("hosts[{}]", i);
    if (host.host().empty() || host.host().starts_with("-")) {
      report.Add(path + ".host", "required: a name or an address, as ssh takes it",
                 "write host: NAME");
    }
    if (host.port() < 0 || host.port() > 65535) {
      report.Add(path + ".port", fmt::format("{} is no port", host.port()),
                 "write 1 to 65535, or delete it");
    }
  }
  report.CheckAbsolute("directory", ssh.directory());
  report.CheckAbsolute("programs", ssh.programs());
}

void CheckSlurm(JobDraft* draft) {
  const Cluster& cluster = draft->job.cluster();
  RuleReporter report("cluster.slurm", draft);
  if (cluster.provider() != Cluster::SLURM) {
    if (cluster.has_slurm()) {
      report.Add("", "only provider SLURM uses it", "write provider: SLURM, or delete it");
    }
    return;
  }
  const Slurm& slurm = cluster.slurm();
  report.CheckAbsolute("directory", slurm.directory());
  report.CheckAbsolute("programs", slurm.programs());
  // Each becomes a line of a script.
  const auto check = [&report](const std::string& path, const std::string& value) {
    if (value.find_first_of("\n\r") != std::string::npos) {
      report.Add(path, "is more than one line", "write one of sbatch's options on one line");
    }
  };
  check("partition", slurm.partition());
  check("account", slurm.account());
  check("qos", slurm.qos());
  check("constraint", slurm.constraint());
  for (int i = 0; i < slurm.options_size(); ++i) {
    const std::string path = fmt::format("options[{}]", i);
    check(path, slurm.options(i));
    if (!slurm.options(i).starts_with("-")) {
      report.Add(path, fmt::format("{} is no option of sbatch", Quoted(slurm.options(i))),
                 "write one that begins with -");
    }
  }
}

constexpr char kDigits[] = "0123456789";
constexpr int64_t kMostDiskGb = 65'536;  // of both clouds

void CheckDisk(int64_t gb, int least, RuleReporter* report) {
  if (gb >= 0 && gb <= kMostDiskGb) return;
  report->Add("diskGb", fmt::format("{} is too {}", gb, gb < 0 ? "small" : "large"),
              fmt::format("write {} to {}, or delete it", least, kMostDiskGb));
}

// Words of commands, and one, `user`, of a script.
void CheckWord(const std::string& path, const std::string& value, RuleReporter* report) {
  const bool plain = value.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:") ==
                     std::string::npos;
  if (plain && !value.starts_with("-")) return;
  report->Add(path, fmt::format("{} is no such name", Quoted(value)),
              "write letters, digits, '-' and '_', the first not '-'");
}

// The same of a list.
void CheckItem(const std::string& path, const std::string& value, RuleReporter* report) {
  if (!value.empty()) return CheckWord(path, value, report);
  report->Add(path, "is empty", "write a name, or delete it");
}

// Whether it ends with its only digits, after a character that `before` is true of.
bool EndsWithNumber(const std::string& text, bool (*before)(char c)) {
  const size_t at = text.find_first_of(kDigits);
  return at != text.npos && at > 0 && before(text[at - 1]) &&
         text.find_first_not_of(kDigits, at) == text.npos;
}
bool IsLetter(char c) { return c >= 'a' && c <= 'z'; }
bool IsDash(char c) { return c == '-'; }

// "us-east-1" and "us-east-1b".
bool IsEc2Region(const std::string& text) { return EndsWithNumber(text, IsDash); }
bool IsEc2Zone(const std::string& text) {
  return !text.empty() && IsLetter(text.back()) && IsEc2Region(text.substr(0, text.size() - 1));
}
// "us-central1" and "us-central1-b".
bool IsGceRegion(const std::string& text) { return EndsWithNumber(text, IsLetter); }
bool IsGceZone(const std::string& text) {
  return text.size() > 2 && IsLetter(text.back()) && IsDash(text[text.size() - 2]) &&
         IsGceRegion(text.substr(0, text.size() - 2));
}

using Names = google::protobuf::RepeatedPtrField<std::string>;

// One in the place of the other.
void CheckPlaces(const Names& regions, const Names& zones, bool (*is_region)(const std::string&),
                 bool (*is_zone)(const std::string&), JobDraft* draft, RuleReporter* report) {
  const std::string& region = draft->job.training_input().region();
  RuleReporter input("trainingInput", draft);
  CheckWord("region", region, &input);
  if (is_zone(region)) {
    input.Add("region", fmt::format("{} is a zone", Quoted(region)),
              "write its region here, and the zone in zones of cluster");
  }
  for (int i = 0; i < regions.size(); ++i) {
    if (!is_zone(regions[i])) continue;
    report->Add(fmt::format("regions[{}]", i), fmt::format("{} is a zone", Quoted(regions[i])),
                fmt::format("write zones: [{}]", regions[i]));
  }
  for (int i = 0; i < zones.size(); ++i) {
    if (!is_region(zones[i])) continue;
    report->Add(fmt::format("zones[{}]", i), fmt::format("{} is a region", Quoted(zones[i])),
                fmt::format("write regions: [{}]", zones[i]));
  }
}

void CheckAws(JobDraft* draft) {
  const Cluster& cluster = draft->job.cluster();
  RuleReporter report("cluster.aws", draft);
  if (cluster.provider() != Cluster::AWS) {
    if (cluster.has_aws()) {
      report.Add("", "only provider AWS uses it", "write provider: AWS, or delete it");
    }
    return;
  }
  const Aws& aws = cluster.aws();
  CheckWord("image", aws.image(), &report);
  CheckWord("user", aws.user(), &report);
  CheckWord("subnet", aws.subnet(), &report);
  CheckWord("profile", aws.profile(), &report);
  for (const auto& [name, values] :
       {std::pair("regions", &aws.regions()), std::pair("zones", &aws.zones()),
        std::pair("securityGroups", &aws.security_groups())}) {
    for (int i = 0; i < values->size(); ++i) {
      CheckItem(fmt::format("{}[{}]", name, i), values->Get(i), &report);
    }
  }
  if (!aws.scheduler_role().empty() && !IsRole(aws.scheduler_role())) {
    report.Add("schedulerRole", fmt::format("{} is no role", Quoted(aws.scheduler_role())),
               "write arn:aws:iam::ACCOUNT:role/NAME, or delete it");
  }
  CheckPlaces(aws.regions(), aws.zones(), IsEc2Region, IsEc2Zone, draft, &report);
  if (!aws.image().empty() && !aws.image().starts_with("ami-") &&
      !aws.image().starts_with("resolve:ssm:")) {
    report.Add("image", fmt::format("{} is no image of EC2", Quoted(aws.image())),
               "write ami-…, or resolve:ssm:PARAMETER");
  }
  CheckDisk(aws.disk_gb(), /*least=*/8, &report);
  report.CheckAbsolute("directory", aws.directory());
}

void CheckGcp(JobDraft* draft) {
  const Cluster& cluster = draft->job.cluster();
  RuleReporter report("cluster.gcp", draft);
  if (cluster.provider() != Cluster::GCP) {
    if (cluster.has_gcp()) {
      report.Add("", "only provider GCP uses it", "write provider: GCP, or delete it");
    }
    return;
  }
  const Gcp& gcp = cluster.gcp();
  for (const auto& [name, value] :
       {std::pair("project", gcp.project()), std::pair("image", gcp.image()),
        std::pair("imageFamily", gcp.image_family()),
        std::pair("imageProject", gcp.image_project()), std::pair("user", gcp.user()),
        std::pair("network", gcp.network()), std::pair("subnetwork", gcp.subnetwork())}) {
    CheckWord(name, value, &report);
  }
  for (const auto& [name, values] :
       {std::pair("regions", &gcp.regions()), std::pair("zones", &gcp.zones())}) {
    for (int i = 0; i < values->size(); ++i) {
      CheckItem(fmt::format("{}[{}]", name, i), values->Get(i), &report);
    }
  }
  CheckPlaces(gcp.regions(), gcp.zones(), IsGceRegion, IsGceZone, draft, &report);
  if (gcp.user().find_first_of(":/") != std::string::npos) {
    report.Add("user", fmt::format("{} is no user's name", Quoted(gcp.user())),
               "write letters, digits, '-' and '_'");
  }
  if (!gcp.image().empty() && !gcp.image_family().empty()) {
    report.Add("imageFamily", "there is an image already", "delete image or imageFamily");
  }
  if (!gcp.image().empty() && gcp.image_project().empty()) {
    report.Add("imageProject", "required beside image", "write the project that the image is in");
  }
  CheckDisk(gcp.disk_gb(), /*least=*/10, &report);
  report.CheckAbsolute("directory", gcp.directory());
}

void CheckRentedAlone(JobDraft* draft) {
  const Cluster& cluster = draft->job.cluster();
  if (cluster.provider() == Cluster::AWS || cluster.provider() == Cluster::GCP) return;
  RuleReporter report("cluster", draft);
  if (cluster.after_job() != Cluster::TERMINATE) {
    report.Add("afterJob", "only machines of AWS and GCP can be stopped and kept",
               "write TERMINATE, or delete it");
  }
  if (cluster.install_driver()) {
    report.Add("installDriver", "only on machines of AWS and GCP NVIDIA's driver is installed",
               "write false, or delete it");
  }
}

void CheckSpot(JobDraft* draft) {
  const Cluster& cluster = draft->job.cluster();
  if (!cluster.has_spot()) return;
  RuleReporter report("cluster.spot", draft);
  if (draft->job.training_input().scheduling().strategy() != Scheduling::LOW_COST) {
    report.Add("", "only strategy LOW_COST uses it",
               "write trainingInput.scheduling.strategy: LOW_COST, or delete it");
  }
  const double max_price = cluster.spot().max_price();
  if (max_price < 0 || !std::isfinite(max_price)) {
    report.Add("maxPrice", fmt::format("{} is no price", max_price),
               "write US dollars an hour of one machine, such as 0.25");
  }
}

void CheckPorts(JobDraft* draft) {
  constexpr int kFirst = 1024, kLast = 65'535;  // that every user may listen on
  if (!draft->job.cluster().has_ports()) return;
  RuleReporter report("cluster.ports", draft);
  const Ports& ports = draft->job.cluster().ports();
  const auto check = [&](const char* name, int port) {
    if (port >= kFirst && port <= kLast) return;
    report.Add(name, fmt::format("{} is no port that roles may listen on", port),
               fmt::format("write {} to {}", kFirst, kLast));
  };
  check("first", ports.first());
  check("last", ports.last());
  if (ports.first() > ports.last()) {
    report.Add("last", "is before the first", "write first: 30000 and last: 30099, or such");
  }
}

void CheckLimits(JobDraft* draft) {
  RuleReporter report("cluster.limits", draft);
  const Limits& limits = draft->job.cluster().limits();
  const auto check = [&](const char* name, int64_t limit) {
    if (limit >= 0) return;
    report.Add(name, fmt::format("{} is no number of {}", limit, name),
               "write 1 or more, or delete it");
  };
  check("jobs", limits.jobs());
  check("machines", limits.machines());
  if (limits.machines() > 0 && draft->job.cluster().provider() == Cluster::LOCAL) {
    report.Add("machines", "provider LOCAL has one machine for all jobs", "write jobs: 1, or such");
  }
}

}  // namespace

void CheckCluster(JobDraft* draft) {
  CheckSsh(draft);
  CheckSlurm(draft);
  CheckAws(draft);
  CheckGcp(draft);
  CheckKubernetes(draft);
  CheckRentedAlone(draft);
  CheckSpot(draft);
  CheckPorts(draft);
  CheckLimits(draft);
  const double max_cost = draft->job.cluster().budget().max_cost();
  if (draft->job.cluster().has_budget() && !(max_cost > 0 && std::isfinite(max_cost))) {
    RuleReporter("cluster.budget", draft)
        .Add("maxCost", fmt::format("{} is no sum of money", max_cost),
             "write US dollars, such as 25, or delete cluster.budget");
  }
  const Idle& idle = draft->job.cluster().idle();
  RuleReporter idle_report("cluster.idle", draft);
  if (!(idle.cpu_below() >= 0 && idle.cpu_below() <= 1)) {
    idle_report.Add("cpuBelow", fmt::format("{} is no share", idle.cpu_below()),
                    "write a number above 0, and 1 at most, such as 0.3");
  }
  if (idle.has_for_() && idle.for_().seconds() < 1) {
    idle_report.Add("for", "is too short", "write 1s or more, such as 300s");
  }
  const int timeout = draft->job.cluster().start_timeout_s();
  if (timeout < 0) {
    RuleReporter("cluster", draft)
        .Add("startTimeoutS", fmt::format("{} is too small", timeout),
             "write 1 or more, or 0 for the default");
  }
}

}  // namespace muster
