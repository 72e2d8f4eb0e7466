// The bound of stale synchronous training, over random schedules: what a replica with clock c reads
// holds every gradient of the steps before c - s of every replica, its own all, and comes as soon
// as it may.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "kernels/device.h"
#include "ps/slice.h"
#include "tests/ps/fakes.h"

namespace muster::ps {
namespace {

constexpr int kSlices = 3;
constexpr int kEvents = 400;  // of one schedule

// V replicas, some slices, and messages that are under way for any time; those of one replica to
// one slice keep their order. Weight v of a slice counts the steps of replica v that are in it:
// gradients are V at place v, which the server averages, and SGD has rate 1.
class RandomSchedule {
 public:
  RandomSchedule(uint32_t seed, int replicas, int64_t staleness)
      : rng_(seed),
        replicas_(replicas),
        staleness_(staleness),
        policy_(*MakeConsistencyPolicy("SSP", staleness)),
        next_step_(static_cast<size_t>(replicas), 0),
        missing_(static_cast<size_t>(replicas), 0) {
    std::vector<ParamSpec> specs;
    for (int i = 0; i < kSlices; ++i) specs.push_back({"w" + std::to_string(i), {replicas}});
    table_ = *ParamTable::Make(std::move(specs));
    partition_.num_servers = 1;
    for (int i = 0; i < kSlices; ++i) {  // each parameter alone, small as it is
      partition_.slices.push_back({i, 0, replicas});
      partition_.server.push_back(0);
      partition_.of_param.push_back({i});
    }
    options_.num_replicas = replicas;
    cuts_ = std::make_unique<CutWriter>(table_, partition_, optimizer_->slot_names(), 0, events_);
    context_ = {&table_,     &partition_,   policy_.get(), optimizer_.get(), &schedule_,
                &options_,   &events_,      &counters_,    &held_,           &outbox_,
                cuts_.get(), stream_.get(), [] {}};
    for (int i = 0; i < kSlices; ++i) {
      slices_.push_back(std::make_unique<Slice>(context_, i));
      slices_.back()->Initialize();
      counted_.emplace_back(static_cast<size_t>(replicas), 0);
    }
    for (int v = 0; v < replicas; ++v) {
      streams_.push_back(std::make_shared<FakeStream>());
      peers_.push_back(std::make_shared<Peer>(streams_.back()));
    }
  }

  void Run() {
    for (int i = 0; i < kEvents && !testing::Test::HasFatalFailure(); ++i) {
      const int v = Below(replicas_);
      if (missing_[static_cast<size_t>(v)] == 0 && Below(2) == 0) {
        Compute(v);
      } else {
        Deliver();
      }
    }
    // Nobody waits for ever: when all that is under way has come, the slowest may go on.
    while (!under_way_.empty() && !testing::Test::HasFatalFailure()) Deliver();
    EXPECT_GT(std::ranges::count(missing_, 0), 0) << "all wait";
    EXPECT_GT(reads_, kEvents / 10);
  }

 private:
  struct Waiting {
    int replica;
    int64_t clock;
  };

  int Below(int n) { return static_cast<int>(rng_() % static_cast<uint32_t>(n)); }

  // The replica's next step: its gradients leave for all slices, now and then one of them twice.
  void Compute(int v) {
    const int64_t step = next_step_[static_cast<size_t>(v)]++;
    missing_[static_cast<size_t>(v)] = kSlices;
    for (int slice = 0; slice < kSlices; ++slice) {
      std::vector<float> gradient(static_cast<size_t>(replicas_), 0.0f);
      gradient[static_cast<size_t>(v)] = static_cast<float>(replicas_);
      std::string bytes(reinterpret_cast<const char*>(gradient.data()),
                        gradient.size() * sizeof(float));
      const auto send = [&](bool want) {
        under_way_[{v, slice}].push_back(
            PushMessage(slice, v, step, want, rpc::Payload::Own(bytes)));
      };
      send(/*want=*/true);
      if (Below(8) == 0) send(/*want=*/false);
    }
  }

  // One of the messages that may come next does.
  void Deliver() {
    if (under_way_.empty()) return;
    const auto queue = std::next(under_way_.begin(), Below(static_cast<int>(under_way_.size())));
    const auto [v, slice] = queue->first;
    rpc::Message message = std::move(queue->second.front());
    queue->second.pop_front();
    if (queue->second.empty()) under_way_.erase(queue);
    const int64_t step = message.header.step;
    int64_t& counted = counted_[static_cast<size_t>(slice)][static_cast<size_t>(v)];
    counted += step == counted ? 1 : 0;
    if ((message.header.flags & rpc::kWantParams) != 0) {
      waiting_.insert({slice, {v, step + 1}});
    }
    slices_[static_cast<size_t>(slice)]->OnPush(peers_[static_cast<size_t>(v)], std::move(message));
    TakeAnswers();
    ExpectNobodyWaitsWhoMayRead();
  }

  void TakeAnswers() {
    for (int v = 0; v < replicas_; ++v) {
      for (const rpc::Message& answer : streams_[static_cast<size_t>(v)]->Take()) {
        ASSERT_NE(answer.header.type, rpc::MessageType::kError) << StatusOf(answer);
        if (answer.header.type == rpc::MessageType::kParams) CheckRead(v, answer);
      }
    }
  }

  void CheckRead(int v, const rpc::Message& answer) {
    const auto slice = static_cast<int>(answer.header.slice);
    const int64_t clock = answer.header.step;
    const auto [begin, end] = waiting_.equal_range(slice);
    const auto asked = std::find_if(begin, end, [&](const auto& entry) {
      return entry.second.replica == v && entry.second.clock == clock;
    });
    ASSERT_TRUE(asked != end) << "an answer that nobody asked for";
    waiting_.erase(asked);
    --missing_[static_cast<size_t>(v)];
    ++reads_;
    const std::vector<float> weights = FloatsOf(answer);
    for (int u = 0; u < replicas_; ++u) {
      const auto seen = static_cast<int64_t>(-weights[static_cast<size_t>(u)]);
      EXPECT_EQ(seen, counted_[static_cast<size_t>(slice)][static_cast<size_t>(u)]);
      ASSERT_GE(seen, u == v ? clock : clock - staleness_)
          << "replica " << v << " with clock " << clock << " reads what replica " << u << " did";
    }
  }

  void ExpectNobodyWaitsWhoMayRead() {
    for (const auto& [slice, reader] : waiting_) {
      const int64_t least = *std::ranges::min_element(counted_[static_cast<size_t>(slice)]);
      ASSERT_LT(least, reader.clock - staleness_)
          << "replica " << reader.replica << " with clock " << reader.clock << " waits";
    }
  }

  std::mt19937 rng_;
  const int replicas_;
  const int64_t staleness_;
  const std::unique_ptr<const ConsistencyPolicy> policy_;
  const std::unique_ptr<const Optimizer> optimizer_ = *MakeOptimizer("sgd", {});
  const Schedule schedule_ = [](int64_t) { return 1.0f; };
  ParamTable table_;
  Partition partition_;
  ServerOptions options_;
  ServerEvents events_;
  ServerCounters counters_;
  Outbox outbox_;
  HeldGradients held_{1 << 20, 1 << 20, outbox_};
  std::unique_ptr<CutWriter> cuts_;
  const std::unique_ptr<Device> cpu_ = MakeCpuDevice(1);
  const std::unique_ptr<Stream> stream_ = cpu_->MakeStream();
  BlockContext context_;
  std::vector<std::unique_ptr<Slice>> slices_;
  std::vector<std::shared_ptr<FakeStream>> streams_;
  std::vector<std::shared_ptr<Peer>> peers_;

  // The model.
  std::map<std::pair<int, int>, std::deque<rpc::Message>> under_way_;  // by replica, slice
  std::vector<int64_t> next_step_;                                     // by replica
  std::vector<int> missing_;                   // by replica: slices of its next step still to come
  std::vector<std::vector<int64_t>> counted_;  // by slice, replica: steps that have come
  std::multimap<int, Waiting> waiting_;        // by slice
  int reads_ = 0;
};

TEST(SspTest, NoReadIsEverStalerThanTheBoundAndNoneWaitsLonger) {
  const uint32_t seed = std::random_device()();
  RecordProperty("seed", std::to_string(seed));
  for (uint32_t run = 0; run < 200; ++run) {
    const int replicas = 1 + static_cast<int>(run % 5);
    const int64_t staleness = run / 5 % 5;
    SCOPED_TRACE(testing::Message() << "seed " << seed << " run " << run << ": " << replicas
                                    << " replicas, bound " << staleness);
    RandomSchedule(seed + run, replicas, staleness).Run();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace muster::ps
