// EC2 in memory, as `aws` tells of it: honours client tokens.
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <regex>
#include <set>

#include "tests/cluster/fake_cloud.h"

namespace muster::cluster {
namespace {

ToolResult Failure(const std::string& code, const std::string& action) {
  return {.err = fmt::format("\nAn error occurred ({}) when calling the {} operation: as it is.\n",
                             code, action),
          .code = 254};
}

ToolResult Answer(const std::string& text) { return {.out = text + "\n"}; }

class FakeEc2 : public FakeCloud {
 public:
  using FakeCloud::FakeCloud;

 private:
  std::string ActionOf(const std::vector<std::string>& words) const override {
    return *(std::ranges::find_if(words,
                                  [](const std::string& word) {
                                    return word == "ec2" || word == "sts" ||
                                           word == "service-quotas" || word == "scheduler";
                                  }) +
             1);
  }
  ToolResult Throttled(const std::string& action) const override {
    return Failure("RequestLimitExceeded", action);
  }
  ToolResult Lost() const override {
    return {.err = "\nConnection was closed before we received a valid response.\n", .code = 255};
  }
  ToolResult Do(const std::string& action, const std::vector<std::string>& words,
                int64_t now_ms) override;
  ToolResult RunInstances(const std::vector<std::string>& words, int64_t now_ms);
  ToolResult Describe(const std::vector<std::string>& words, int64_t now_ms) const;
  ToolResult SetState(const std::vector<std::string>& words, State state);

  int64_t Entries() const override { return static_cast<int64_t>(entries_.size()); }

  std::map<std::string, std::vector<std::string>> tokens_;  // words of the call
  std::map<std::string, std::string> ids_;                  // that it was answered with, by token
  std::set<std::string> entries_;                           // of the scheduler
  std::set<std::string> groups_;                            // regions that have the security group
};

ToolResult FakeEc2::Do(const std::string& action, const std::vector<std::string>& words,
                       int64_t now_ms) {
  ToolResult result;
  if (action == "run-instances") {
    result = RunInstances(words, now_ms);
  } else if (action == "describe-instances") {
    result = Describe(words, now_ms);
  } else if (action == "terminate-instances") {
    result = SetState(words, State::kGone);
  } else if (action == "stop-instances") {
    result = SetState(words, State::kStopped);
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
  } else if (action == "describe-spot-price-history") {
    std::string out;
    for (const auto& [zone, price] : options_.spot_prices) {
      if (!zone.starts_with(After(words, "--region"))) continue;
      for (auto type = std::ranges::find(words, "--instance-types") + 1; type != words.end();
           ++type) {
        out += fmt::format("{}\t{}\t{:.6f}\t1970-01-01T00:00:01+00:00\n", *type, zone, price);
      }
    }
    result = Answer(out);
  } else if (action == "describe-security-groups") {
    result = Answer(groups_.contains(After(words, "--region")) ? "sg-1\t2" : "None\tNone");
  } else if (action == "create-schedule") {
    result = entries_.insert(After(words, "--name")).second
                 ? Answer("arn:aws:scheduler:::schedule/default/" + After(words, "--name"))
                 : Failure("ConflictException", action);
  } else if (action == "list-schedules") {
    for (const std::string& name : entries_) {
      if (name.starts_with(After(words, "--name-prefix"))) result.out += name + "\n";
    }
  } else if (action == "delete-schedule") {
    if (entries_.erase(After(words, "--name")) == 0) {
      result = Failure("ResourceNotFoundException", action);
    }
  } else if (action == "create-security-group") {
    groups_.insert(After(words, "--region"));
    result = Answer("sg-1");
  } else if (action == "authorize-security-group-ingress") {
    result = Answer("True");
  } else {
    result = Failure("InvalidAction", action);
  }
  return result;
}

ToolResult FakeEc2::RunInstances(const std::vector<std::string>& words, int64_t now_ms) {
  const char* kAction = "RunInstances";
  if (std::ranges::count(words, "--dry-run") > 0) return Failure("DryRunOperation", kAction);
  const std::string token = After(words, "--client-token");
  if (const auto known = tokens_.find(token); known != tokens_.end()) {
    return known->second == words ? Answer(ids_[token])
                                  : Failure("IdempotentParameterMismatch", kAction);
  }
  const int64_t count = std::stoll(After(words, "--count"));
  const std::string placement = After(words, "--placement"), region = After(words, "--region");
  const std::string zone = placement.substr(placement.find('=') + 1);
  const bool spot = After(words, "--instance-market-options").starts_with("MarketType=spot,");
  switch (Refuses(region, zone, count, spot)) {
    case Refusal::kNoQuota:
      return Failure("VcpuLimitExceeded", kAction);
    case Refusal::kNoSuchZone:
      return Failure("InvalidParameterValue", kAction);
    case Refusal::kNoRoom:
      return Failure("InsufficientInstanceCapacity", kAction);
    case Refusal::kNone:
      break;
  }
  tokens_[token] = words;
  std::map<std::string, std::string> tags;
  const std::string text = After(words, "--tag-specifications");
  const std::regex tag("Key=([^,}]+),Value=([^}]*)\\}");
  for (std::sregex_iterator it(text.begin(), text.end(), tag), end; it != end; ++it) {
    tags[(*it)[1]] = (*it)[2];
  }
  for (int64_t i = 0; i < count; ++i) {
    Make({.id = fmt::format("i-{:017x}", machines_.size() + 1),
          .region = region,
          .zone = zone,
          .tags = tags,
          .index = i,
          .spot = spot},
         now_ms);
    ids_[token] += (i == 0 ? "" : "\t") + machines_.back().id;
  }
  return Answer(ids_[token]);
}

ToolResult FakeEc2::Describe(const std::vector<std::string>& words, int64_t now_ms) const {
  const std::string filter = After(words, "--filters"), region = After(words, "--region");
  const std::string job =
      filter.starts_with("Name=tag:") ? filter.substr(filter.rfind('=') + 1) : "";
  std::string out;
  for (const Machine& m : machines_) {
    if (m.region != region || now_ms < m.listed_ms) continue;
    if (!job.empty() && m.tags.at("muster-job") != job) continue;
    const std::string state = m.state == State::kPending   ? "pending"
                              : m.state == State::kRunning ? "running"
                              : m.state == State::kStopped ? "stopped"
                                                           : "terminated";
    const std::string address = m.state == State::kRunning ? "10.0.0.1" : "None";
    out +=
        fmt::format("{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n", m.id, state, address,
                    address, m.zone, m.spot ? "spot" : "None", m.index, m.tags.at("muster-job"),
                    m.tags.at("muster-role"), m.tags.at("muster-attempt"),
                    m.tags.at("muster-owner"), m.tags.at("muster-first"),
                    m.taken && m.state == State::kGone ? "Server.SpotInstanceTermination" : "None");
  }
  return Answer(out);
}

ToolResult FakeEc2::SetState(const std::vector<std::string>& words, State state) {
  auto it = std::ranges::find(words, "--instance-ids");
  for (++it; it != words.end(); ++it) {
    for (Machine& machine : machines_) {
      if (machine.id != *it || machine.state == state) continue;
      if (state == State::kStopped && machine.spot) return Failure("UnsupportedOperation", "Stop");
      if (state == State::kStopped && machine.state != State::kRunning) {
        return Failure("IncorrectInstanceState", "StopInstances");
      }
      machine.state = state;
    }
  }
  return Answer("1");
}

}  // namespace

std::unique_ptr<FakeCloud> MakeFakeEc2(FakeCloudOptions options) {
  return std::make_unique<FakeEc2>(std::move(options));
}

}  // namespace muster::cluster
