// FakeCloud: a cloud in memory that understands the words which a launcher says to its command
// line, on a clock that the test plays. As a real one it shows new machines some time after it has
// made them, refuses whole calls, knows a call that it has done already, and now and then throttles
// or loses an answer.
//
// Owned by one thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cluster/tool.h"

namespace muster::cluster {

struct FakeCloudOptions {
  uint64_t seed = 1;
  std::map<std::string, int64_t> room;  // by zone: machines that it has; absent: it is not there
  std::map<std::string, int64_t> spot_room;   // of these, for spot machines; absent: for all
  std::map<std::string, double> spot_prices;  // by zone, an hour; absent: nobody tells
  std::map<std::string, int64_t> quota;       // by region, machines that it allows
  int64_t appear_ms = 0;                      // at most, until a new machine is listed
  int64_t boot_ms = 0;                        // at most, until it runs
  double throttled = 0, lost = 0;  // of all calls: refused for now; done, but not answered
  double taken = 0;                // of all machines: gone before they run
};

class FakeCloud {
 public:
  explicit FakeCloud(FakeCloudOptions options)
      : options_(std::move(options)), random_(options_.seed) {}
  virtual ~FakeCloud() = default;

  ToolResult Run(const std::vector<std::string>& words, int64_t now_ms);

  // From now on; as in the options.
  void set_taken(double taken) { options_.taken = taken; }
  void set_lost(double lost) { options_.lost = lost; }
  // A machine that runs is taken back by the cloud.
  void TakeAway(const std::string& id);
  // Spot machines that cost something.
  int64_t AliveSpot() const;
  // Machines that cost something at `now_ms`.
  int64_t Alive(int64_t now_ms);
  // Machines that neither run nor are gone.
  int64_t Stopped() const;
  // What the cloud has been told to do at a time.
  virtual int64_t Entries() const { return 0; }
  // The most that have been alive at one time.
  int64_t most() const { return most_; }
  int64_t made() const { return static_cast<int64_t>(machines_.size()); }
  std::vector<std::string> asked;  // ActionOf every call

 protected:
  enum class State { kPending, kRunning, kStopped, kGone };
  struct Machine {
    std::string id, region, zone;
    std::map<std::string, std::string> tags;
    int64_t index = 0;
    State state = State::kPending;
    int64_t listed_ms = 0, runs_ms = 0;  // from when on
    bool taken = false;                  // goes when it should run
    bool spot = false;
  };
  enum class Refusal { kNone, kNoSuchZone, kNoRoom, kNoQuota };

  // Whether so many machines more are refused.
  Refusal Refuses(const std::string& region, const std::string& zone, int64_t count,
                  bool spot) const;
  void Make(Machine machine, int64_t now_ms);

  FakeCloudOptions options_;
  std::vector<Machine> machines_;

 private:
  virtual std::string ActionOf(const std::vector<std::string>& words) const = 0;
  virtual ToolResult Do(const std::string& action, const std::vector<std::string>& words,
                        int64_t now_ms) = 0;
  virtual ToolResult Throttled(const std::string& action) const = 0;
  virtual ToolResult Lost() const = 0;

  void Advance(int64_t now_ms);
  bool Chance(double probability) {
    return std::uniform_real_distribution<double>(0, 1)(random_) < probability;
  }
  int64_t UpTo(int64_t most) { return std::uniform_int_distribution<int64_t>(0, most)(random_); }

  std::mt19937_64 random_;
  int64_t most_ = 0;
};

// The word after `flag`, or what follows it and '='; "" when there is none.
std::string After(const std::vector<std::string>& words, const std::string& flag);

// EC2 as `aws` tells of it; Compute Engine as `gcloud` does.
std::unique_ptr<FakeCloud> MakeFakeEc2(FakeCloudOptions options);
std::unique_ptr<FakeCloud> MakeFakeGce(FakeCloudOptions options);

}  // namespace muster::cluster
