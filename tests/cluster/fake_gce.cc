// Compute Engine in memory, as `gcloud` 528 tells of it: names are unique, what is gone is listed
// no more, and a refused `bulk create` exits with 0.
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>

#include "tests/cluster/fake_cloud.h"

namespace muster::cluster {
namespace {

ToolResult Error(const std::string& text, int code) {
  return {.err = fmt::format("ERROR: {}\n", text), .code = code};
}

std::vector<std::string> Split(const std::string& text, char by) {
  return absl::StrSplit(text, by);
}

// "a=b,c=d"
std::map<std::string, std::string> Pairs(const std::string& text) {
  std::map<std::string, std::string> pairs;
  for (const std::string& pair : Split(text, ',')) {
    pairs[pair.substr(0, pair.find('='))] = pair.substr(pair.find('=') + 1);
  }
  return pairs;
}

class FakeGce : public FakeCloud {
 public:
  using FakeCloud::FakeCloud;

 private:
  std::string ActionOf(const std::vector<std::string>& words) const override {
    const auto compute = std::ranges::find(words, "compute");
    return *(compute + 2) == "bulk" ? "bulk create" : fmt::format("{} {}", compute[1], compute[2]);
  }
  ToolResult Throttled(const std::string& action) const override {
    // A list that failed exits with 0 all the same.
    if (action == "instances list") {
      return {.err = "WARNING: Some requests did not succeed.\n - Rate Limit Exceeded\n\n"};
    }
    return Error("Rate Limit Exceeded", action == "bulk create" ? 0 : 1);
  }
  ToolResult Lost() const override {
    return Error("gcloud crashed (ConnectionError): ('Connection aborted.', …)", 1);
  }

  ToolResult Do(const std::string& action, const std::vector<std::string>& words,
                int64_t now_ms) override {
    if (action == "bulk create") return BulkCreate(words, now_ms);
    if (action == "instances list") return List(words, now_ms);
    if (action == "instances delete") return SetState(words, "delete", State::kGone);
    if (action == "instances stop") return SetState(words, "stop", State::kStopped);
    if (action == "images describe-from-family") return {.out = "debian-12-x\tX86_64\n"};
    if (action == "project-info describe") return {.out = "GPUS_ALL_REGIONS\t100000.0\t0.0\n"};
    if (action == "regions describe") return Region(After(words, "describe"));
    if (action == "machine-types list") return MachineTypes(words);
    return Error("Invalid choice", 2);
  }

  ToolResult Region(const std::string& region) const {
    std::vector<std::string> zones;
    for (const auto& [zone, count] : options_.room) {
      if (zone.starts_with(region)) zones.push_back(zone);
    }
    return {.out = fmt::format("CPUS\t100000.0\t0.0\t{}\n", fmt::join(zones, ";"))};
  }

  ToolResult MachineTypes(const std::vector<std::string>& words) const {
    const std::string filter = After(words, "--filter");  // name=(a b)
    const std::vector<std::string> types = Split(filter.substr(6, filter.size() - 7), ' ');
    std::string out;
    for (const std::string& zone : Split(After(words, "--zones"), ',')) {
      for (const std::string& type : types) out += fmt::format("{}\t{}\n", type, zone);
    }
    return {.out = out};
  }

  ToolResult BulkCreate(const std::vector<std::string>& words, int64_t now_ms) {
    const std::vector<std::string> names = Split(After(words, "--predefined-names"), ',');
    const std::string zone = After(words, "--zone");
    const std::string region = zone.substr(0, zone.rfind('-'));
    for (const Machine& machine : machines_) {
      if (machine.state == State::kGone || std::ranges::count(names, machine.id) == 0) continue;
      return Error(fmt::format("The resource 'projects/p/zones/{}/instances/{}' already exists",
                               zone, machine.id),
                   0);
    }
    const bool spot = After(words, "--provisioning-model") == "SPOT";
    switch (Refuses(region, zone, static_cast<int64_t>(names.size()), spot)) {
      case Refusal::kNoQuota:
        return Error(fmt::format("Quota 'CPUS' exceeded.  Limit: 24.0 in region {}.", region), 0);
      case Refusal::kNoSuchZone:
        return Error(fmt::format("The resource 'projects/p/zones/{}' was not found", zone), 1);
      case Refusal::kNoRoom:
        return Error(
            "<ErrorsValueListEntry\n code: 'ZONE_RESOURCE_POOL_EXHAUSTED'\n message: \"The zone "
            "does not have enough resources available to fulfill the request.\">",
            0);
      case Refusal::kNone:
        break;
    }
    std::map<std::string, std::string> tags = Pairs(After(words, "--metadata"));
    tags.merge(Pairs(After(words, "--labels")));
    for (const std::string& name : names) {
      Make({.id = name, .region = region, .zone = zone, .tags = tags, .spot = spot}, now_ms);
    }
    return {.err = "Bulk create request finished with status message: [VM instances created: …]\n"};
  }

  ToolResult List(const std::vector<std::string>& words, int64_t now_ms) const {
    const std::string filter = After(words, "--filter");
    std::string out;
    for (const Machine& m : machines_) {
      if (m.state == State::kGone || now_ms < m.listed_ms) continue;
      if (filter != "labels.muster-job:*" &&
          filter != "labels.muster-job=" + m.tags.at("muster-job"))
        continue;
      out += fmt::format("{}\t{}\t{}\t{}\t10.0.0.1\t{}\t{}\t{}\t{}\t{}\t\n", m.id,
                         m.state == State::kRunning   ? "RUNNING"
                         : m.state == State::kStopped ? "TERMINATED"
                                                      : "STAGING",
                         m.zone, m.state == State::kRunning ? "3.4.5.6" : "",
                         m.spot ? "SPOT" : "STANDARD", m.tags.at("muster-role"),
                         m.tags.at("muster-attempt"), m.tags.at("muster-job"),
                         m.tags.at("muster-owner"));
    }
    return {.out = out};
  }

  ToolResult SetState(const std::vector<std::string>& words, const char* verb, State state) {
    std::string missing;
    for (auto it = std::ranges::find(words, verb) + 1; it != words.end(); ++it) {
      if (it->starts_with("--")) continue;
      const auto found = std::ranges::find_if(machines_, [&](const Machine& machine) {
        return machine.id == *it && machine.state != State::kGone;
      });
      if (found != machines_.end()) {
        found->state = state;
      } else {
        missing +=
            fmt::format("\n - The resource 'projects/p/zones/z/instances/{}' was not found", *it);
      }
    }
    return missing.empty() ? ToolResult() : Error("Could not fetch resource:" + missing, 1);
  }
};

}  // namespace

std::unique_ptr<FakeCloud> MakeFakeGce(FakeCloudOptions options) {
  return std::make_unique<FakeGce>(std::move(options));
}

}  // namespace muster::cluster
