// FakeEc2: an EC2 in memory that understands the words of `aws` which a launcher says, on a clock
// that the test plays. As the real one it shows new machines some time after it has made them,
// honours client tokens, refuses whole calls, and now and then throttles or loses an answer.
//
// Owned by one thread.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "cluster/tool.h"

namespace muster::cluster {

struct FakeEc2Options {
  uint64_t seed = 1;
  std::map<std::string, int64_t> room;   // by zone: machines that it has; absent: it is not there
  std::map<std::string, int64_t> quota;  // by region, machines that its run-instances allows
  int64_t appear_ms = 0;                 // at most, until a new machine is listed
  int64_t boot_ms = 0;                   // at most, until it runs
  double throttled = 0, lost = 0;        // of all calls: refused for now; done, but not answered
  double taken = 0;                      // of all machines: gone before they run
};

class FakeEc2 {
 public:
  explicit FakeEc2(FakeEc2Options options) : options_(std::move(options)), random_(options_.seed) {}

  ToolResult Run(const std::vector<std::string>& words, int64_t now_ms);

  // Machines that cost something at `now_ms`.
  int64_t Alive(int64_t now_ms);
  // The most that have been alive at one time.
  int64_t most() const { return most_; }
  int64_t made() const { return static_cast<int64_t>(machines_.size()); }
  std::vector<std::string> asked;  // "run-instances", …

 private:
  struct Machine {
    std::string id, region, zone, lifecycle, state;
    std::map<std::string, std::string> tags;
    int64_t index = 0;
    int64_t listed_ms = 0, runs_ms = 0;  // from when on
    bool taken = false;                  // goes when it should run
  };

  void Advance(int64_t now_ms);
  ToolResult RunInstances(const std::vector<std::string>& words, int64_t now_ms);
  ToolResult Describe(const std::vector<std::string>& words, int64_t now_ms);
  ToolResult Terminate(const std::vector<std::string>& words);
  bool Chance(double probability) {
    return std::uniform_real_distribution<double>(0, 1)(random_) < probability;
  }
  int64_t UpTo(int64_t most) { return std::uniform_int_distribution<int64_t>(0, most)(random_); }

  const FakeEc2Options options_;
  std::mt19937_64 random_;
  std::vector<Machine> machines_;
  std::map<std::string, std::vector<std::string>> tokens_;  // words of the call
  std::set<std::string> groups_;                            // regions that have the security group
  int64_t most_ = 0;
};

}  // namespace muster::cluster
