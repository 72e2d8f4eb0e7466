#include "tests/cluster/fake_ec2.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <regex>

namespace muster::cluster {
namespace {

std::string After(const std::vector<std::string>& words, const std::string& flag) {
  const auto it = std::ranges::find(words, flag);
  return it == words.end() || it + 1 == words.end() ? "" : *(it + 1);
}

ToolResult Failure(const std::string& code, const std::string& action) {
  return {.err = fmt::format("\nAn error occurred ({}) when calling the {} operation: as it is.\n",
                             code, action),
          .code = 254};
}

ToolResult Answer(const std::string& text) { return {.out = text + "\n"}; }

}  // namespace

ToolResult FakeEc2::Run(const std::vector<std::string>& words, int64_t now_ms) {
  Advance(now_ms);
  const auto service = std::ranges::find_if(words, [](const std::string& word) {
    return word == "ec2" || word == "sts" || word == "service-quotas";
  });
  const std::string action = *(service + 1);
  asked.push_back(action);
  if (Chance(options_.throttled)) return Failure("RequestLimitExceeded", action);
  ToolResult result;
  if (action == "run-instances") {
    result = RunInstances(words, now_ms);
  } else if (action == "describe-instances") {
    result = Describe(words, now_ms);
  } else if (action == "terminate-instances") {
    result = Terminate(words);
  } else if (action == "get-caller-identity") {
    result = Answer("123456789012");
  } else if (action == "get-service-quota") {
    result = Answer("100000.0");
  } else if (action == "describe-images") {
    result = Answer("/dev/xvda\tx86_64");
  } else if (action == "describe-vpcs") {
    result = Answer("vpc-1");
  } else if (action == "describe-instance-type-offerings") {
    const std::string text = After(words, "--filters");
    std::string out;
    for (const auto& [zone, count] : options_.room) {
      if (!zone.starts_with(After(words, "--region"))) continue;
      const std::vector<std::string> types = absl::StrSplit(text.substr(text.rfind('=') + 1), ',');
      for (const std::string& type : types) out += fmt::format("{}\t{}\n", type, zone);
    }
    result = Answer(out);
  } else if (action == "describe-security-groups") {
    result = Answer(groups_.contains(After(words, "--region")) ? "sg-1\t2" : "None\tNone");
  } else if (action == "create-security-group") {
    groups_.insert(After(words, "--region"));
    result = Answer("sg-1");
  } else if (action == "authorize-security-group-ingress") {
    result = Answer("True");
  } else {
    result = Failure("InvalidAction", action);
  }
  if (Chance(options_.lost)) {
    return {.err = "\nConnection was closed before we received a valid response.\n", .code = 255};
  }
  return result;
}

void FakeEc2::Advance(int64_t now_ms) {
  for (Machine& machine : machines_) {
    if (machine.state != "pending" || now_ms < machine.runs_ms) continue;
    machine.state = machine.taken ? "terminated" : "running";
  }
}

int64_t FakeEc2::Alive(int64_t now_ms) {
  Advance(now_ms);
  return std::ranges::count_if(machines_, [](const Machine& m) { return m.state != "terminated"; });
}

ToolResult FakeEc2::RunInstances(const std::vector<std::string>& words, int64_t now_ms) {
  const char* kAction = "RunInstances";
  if (std::ranges::count(words, "--dry-run") > 0) return Failure("DryRunOperation", kAction);
  const std::string token = After(words, "--client-token");
  if (const auto known = tokens_.find(token); known != tokens_.end()) {
    return known->second == words ? Answer(After(words, "--count"))
                                  : Failure("IdempotentParameterMismatch", kAction);
  }
  const int64_t count = std::stoll(After(words, "--count"));
  const std::string placement = After(words, "--placement"), region = After(words, "--region");
  const std::string zone = placement.substr(placement.find('=') + 1);
  int64_t in_zone = 0, in_region = 0;
  for (const Machine& machine : machines_) {
    if (machine.state == "terminated") continue;
    in_zone += machine.zone == zone ? 1 : 0;
    in_region += machine.region == region ? 1 : 0;
  }
  const auto quota = options_.quota.find(region);
  if (quota != options_.quota.end() && in_region + count > quota->second) {
    return Failure("VcpuLimitExceeded", kAction);
  }
  const auto room = options_.room.find(zone);
  if (room == options_.room.end()) return Failure("InvalidParameterValue", kAction);
  if (in_zone + count > room->second) return Failure("InsufficientInstanceCapacity", kAction);
  tokens_[token] = words;
  std::map<std::string, std::string> tags;
  const std::string text = After(words, "--tag-specifications");
  const std::regex tag("Key=([^,}]+),Value=([^}]*)\\}");
  for (std::sregex_iterator it(text.begin(), text.end(), tag), end; it != end; ++it) {
    tags[(*it)[1]] = (*it)[2];
  }
  for (int64_t i = 0; i < count; ++i) {
    Machine machine;
    machine.id = fmt::format("i-{:017x}", machines_.size() + 1);
    machine.region = region;
    machine.zone = zone;
    machine.state = "pending";
    machine.tags = tags;
    machine.index = i;
    machine.listed_ms = now_ms + UpTo(options_.appear_ms);
    machine.runs_ms = now_ms + UpTo(options_.boot_ms);
    machine.taken = Chance(options_.taken);
    machines_.push_back(std::move(machine));
  }
  most_ = std::max(most_, Alive(now_ms));
  return Answer(fmt::format("{}", count));
}

ToolResult FakeEc2::Describe(const std::vector<std::string>& words, int64_t now_ms) {
  const std::string filter = After(words, "--filters"), region = After(words, "--region");
  const std::string job =
      filter.starts_with("Name=tag:") ? filter.substr(filter.rfind('=') + 1) : "";
  std::string out;
  for (const Machine& m : machines_) {
    if (m.region != region || now_ms < m.listed_ms) continue;
    if (!job.empty() && m.tags.at("muster-job") != job) continue;
    const std::string address = m.state == "running" ? "10.0.0.1" : "None";
    out +=
        fmt::format("{}\t{}\t{}\t{}\t{}\tNone\t{}\t{}\t{}\t{}\t{}\t{}\n", m.id, m.state, address,
                    address, m.zone, m.index, m.tags.at("muster-job"), m.tags.at("muster-role"),
                    m.tags.at("muster-attempt"), m.tags.at("muster-owner"),
                    m.taken && m.state == "terminated" ? "Server.SpotInstanceTermination" : "None");
  }
  return Answer(out);
}

ToolResult FakeEc2::Terminate(const std::vector<std::string>& words) {
  auto it = std::ranges::find(words, "--instance-ids");
  for (++it; it != words.end(); ++it) {
    for (Machine& machine : machines_) {
      if (machine.id == *it) machine.state = "terminated";
    }
  }
  return Answer("1");
}

}  // namespace muster::cluster
