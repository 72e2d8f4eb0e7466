// BSP with backup workers, workers as threads and servers in the same process: every slice of every
// server counts the same replicas in a step, whatever the timing; a worker that stalls stops nobody
// and goes on at the newest version; the weights are those of plain BSP over whom a step counts.
#include "tests/ps/backup_workers.h"

#include <gmock/gmock.h>

#include <chrono>
#include <random>

#include "ps/wire.h"

namespace muster::ps {
namespace {

// Now and then a little, seldom longer than a step takes.
std::function<void(int64_t, bool)> RandomStalls(uint32_t seed) {
  return [rng = std::mt19937(seed)](int64_t, bool) mutable {
    const uint32_t n = rng() % 64;
    if (n == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(8));
    } else if (n < 16) {
      std::this_thread::sleep_for(std::chrono::microseconds(rng() % 1000));
    }
  };
}

struct Setting {
  int replicas, backups, servers, shards;
  std::vector<std::vector<int32_t>> leases;
};

TEST(BackupWorkersTest, AllSlicesOfAStepCountTheSameReplicas) {
  constexpr int64_t kSteps = 40;
  const uint32_t seed = std::random_device()();
  uint32_t run = 0;
  for (const Setting& s :
       {Setting{2, 1, 1, 1, {{0}, {1}}}, Setting{3, 1, 2, 1, {{0}, {1}, {2}}},
        Setting{4, 1, 3, 2, {{3}, {1}, {0}, {2}}}, Setting{5, 2, 3, 1, {{0}, {1}, {2}, {3}, {4}}},
        Setting{5, 3, 2, 2, {{0, 4}, {1}, {2, 3}}}, Setting{3, 2, 2, 1, {{0, 1, 2}}}}) {
    ++run;
    SCOPED_TRACE(testing::Message() << "seed " << seed << " run " << run);
    const ParamTable table = s.servers == 1 ? CountingTable(300) : CountingTable();
    Servers servers(table, {.replicas = s.replicas,
                            .servers = s.servers,
                            .shards = s.shards,
                            .delay_seed = run % 2 == 0 ? seed + run : 0,
                            .backups = s.backups});
    servers.Initialize();
    Readings readings(table, servers.partition(), s.replicas, s.replicas - s.backups);
    auto workers = CountingWorkers(s.leases, s.replicas, s.backups);
    for (size_t i = 0; i < workers.size(); ++i) {
      workers[i]->before_push = RandomStalls(seed + 100 * run + static_cast<uint32_t>(i));
    }
    RunCounting(servers, table, readings, workers, kSteps);
    ServerStats all;
    for (int i = 0; i < s.servers; ++i) {
      const ServerStats stats = servers.server(i).stats();
      all.pushes += stats.pushes;
      all.dropped += stats.dropped;
      all.applies += stats.applies;
      all.refused += stats.refused;
      EXPECT_EQ(stats.held_bytes, 0);
    }
    const auto slices = static_cast<int64_t>(servers.partition().slices.size());
    EXPECT_EQ(all.applies, kSteps * slices);
    EXPECT_EQ(all.refused, 0);
    EXPECT_GE(all.pushes, all.applies * (s.replicas - s.backups));
    EXPECT_GT(all.dropped, 0);
    for (const auto& worker : workers) {
      if (worker->replicas.size() > 1) continue;
      EXPECT_EQ(worker->missed[0],
                kSteps - worker->first - readings.Count(kSteps, worker->replicas[0]));
    }
    if (testing::Test::HasFailure()) return;
  }
}

class StallTest : public testing::Test {
 protected:
  static constexpr int64_t kSteps = 40;
  void Start(int servers) {
    servers_ = std::make_unique<Servers>(
        table_, JobOptions{.replicas = 3, .servers = servers, .backups = 1});
    servers_->Initialize();
    readings_ = std::make_unique<Readings>(table_, servers_->partition(), 3, 2);
    workers_ = CountingWorkers({{0}, {1}, {2}}, 3, 1);
  }
  void Run() { RunCounting(*servers_, table_, *readings_, workers_, kSteps); }

  const ParamTable table_ = CountingTable();
  std::unique_ptr<Servers> servers_;
  std::unique_ptr<Readings> readings_;
  std::vector<std::unique_ptr<CountingWorker>> workers_;
};

// Each replica in turn, replica 0 and the one next to the arbiter included; before it pushed
// anything, and when half of its gradient is there.
TEST_F(StallTest, AStalledReplicaStopsNobodyAndGoesOnAtTheNewestVersion) {
  for (const size_t stalled : {0, 1, 2}) {
    for (const bool half : {false, true}) {
      SCOPED_TRACE(testing::Message() << "replica " << stalled << ", half " << half);
      Start(/*servers=*/2);
      std::vector<int64_t> steps;
      workers_[stalled]->before_push = [&](int64_t step, bool now_half) {
        if (!now_half) steps.push_back(step);
        if (now_half == half && steps.size() == 4) readings_->AwaitVersion(20);
      };
      Run();
      ASSERT_GT(steps.size(), 4u) << "it did not come back";
      EXPECT_GE(steps[4], 20) << "it went on in the past";
      const int64_t at = steps[3];
      EXPECT_EQ(readings_->Count(20, static_cast<int32_t>(stalled)),
                readings_->Count(at, static_cast<int32_t>(stalled)));
      EXPECT_GT(workers_[stalled]->missed[0], 20 - at - 1);
      if (HasFailure()) return;
    }
  }
}

TEST_F(StallTest, AWorkerThatStartsLateBeginsWithTheNewestVersion) {
  Start(/*servers=*/3);
  workers_[1]->before_start = [&] { readings_->AwaitVersion(20); };
  Run();
  EXPECT_GE(workers_[1]->first, 19);
  EXPECT_EQ(readings_->Count(20, 1), 0);
}

TEST_F(StallTest, OneThatStallsAtTheEndFindsTheFinalParameters) {
  Start(/*servers=*/2);
  workers_[2]->before_push = [&](int64_t step, bool) {
    if (step == kSteps - 3) readings_->AwaitVersion(kSteps);
  };
  Run();
  EXPECT_EQ(workers_[2]->reached, kSteps);
}

// The gradient of (step, v): depends on the weights and on the item, and on every bit of both.
void Gradient(const ParamTable& table, std::span<const float> weights, int64_t step, int32_t v,
              std::span<float> out) {
  std::ranges::fill(out, 0.0f);
  for (ParamId p = 0; p < static_cast<ParamId>(table.specs().size()); ++p) {
    for (int64_t i = 0; i < table.specs()[static_cast<size_t>(p)].size(); ++i) {
      const auto at = static_cast<size_t>(table.offset(p) + i);
      const float item = 0.25f * static_cast<float>(v + 1) + 0.125f * static_cast<float>(step % 7) +
                         static_cast<float>(at % 31) * 0.01f;
      out[at] = weights[at] * item - 0.3f * item * item;
    }
  }
}

// A replica that works when it is told to.
class Puppet {
 public:
  Puppet(Servers& servers, const ParamTable& table, int32_t replica)
      : table_(table),
        replica_(replica),
        weights_(static_cast<size_t>(table.arena_size()), 0.0f),
        client_(*ConnectWorker(servers, table, replica)),
        gradient_(client_->AllocateGradients()) {
    client_->SetArena(weights_);
    client_->Pull(replica, 0, -1);
    EXPECT_TRUE(client_->Wait(0).ok());
  }
  // Pushes what item (step, item) has for its weights.
  void Push(int64_t step, int32_t item) {
    Gradient(table_, weights_, step, item, {gradient_.get(), weights_.size()});
    for (ParamId p = 0; p < static_cast<ParamId>(table_.specs().size()); ++p) {
      client_->Push(replica_, step, p,
                    {gradient_.get() + table_.offset(p),
                     static_cast<size_t>(table_.specs()[static_cast<size_t>(p)].size())},
                    p, /*want_params=*/true);
    }
    client_->Flush();
  }
  // Returns the clock that it goes on with.
  int64_t Wait(int64_t clock) {
    const absl::Status status = client_->Wait(clock);
    EXPECT_TRUE(status.ok()) << status;
    return client_->reached();
  }
  const std::vector<float>& weights() const { return weights_; }
  Client& client() { return *client_; }

 private:
  const ParamTable& table_;
  const int32_t replica_;
  std::vector<float> weights_;
  const std::unique_ptr<Client> client_;
  const std::shared_ptr<float[]> gradient_;
};

TEST(BackupWorkersTest, TheWeightsAreThoseOfPlainBspOverWhomAStepCounts) {
  const Init normal = {Init::Kind::kTruncatedNormal, 0.5f};
  for (const auto& [push, pull] :
       {std::pair("none", "none"), {"fp16", "none"}, {"none", "bf16"}, {"none", "int8"}}) {
    SCOPED_TRACE(testing::Message() << "push " << push << ", pull " << pull);
    const ParamTable table = *ParamTable::Make({
        {.name = "big",
         .shape = {300, 111},
         .init = normal,
         .codec = *MakeCodec(push),
         .pull_codec = *MakeCodec(pull)},
        {.name = "small", .shape = {77}, .init = normal},
        {.name = "mean", .shape = {13}, .kind = ParamSpec::Kind::kStatistic},
        {.name = "odd", .shape = {5, 1001}, .init = normal, .decay = false, .lr_scale = 2},
    });
    JobOptions job = {.servers = 2, .optimizer = "adam", .learning_rate = 0.01f};
    job.replicas = 3;
    job.backups = 1;
    Servers with(table, job);
    with.Initialize();
    job.replicas = 2;
    job.backups = 0;
    Servers plain(table, job);
    plain.Initialize();
    std::vector<std::unique_ptr<Puppet>> three, two;
    for (int32_t v = 0; v < 3; ++v) three.push_back(std::make_unique<Puppet>(with, table, v));
    for (int32_t v = 0; v < 2; ++v) two.push_back(std::make_unique<Puppet>(plain, table, v));
    for (int64_t step = 0; step < 12; ++step) {
      const auto late = static_cast<int32_t>(step % 3);
      int32_t next = 0;
      for (int32_t v = 0; v < 3; ++v) {
        if (v == late) continue;
        three[static_cast<size_t>(v)]->Push(step, v);
        two[static_cast<size_t>(next++)]->Push(step, v);
      }
      for (int32_t v = 0; v < 3; ++v) {
        if (v == late) continue;
        ASSERT_EQ(three[static_cast<size_t>(v)]->Wait(step + 1), step + 1);
      }
      three[static_cast<size_t>(late)]->Push(step, late);
      ASSERT_EQ(three[static_cast<size_t>(late)]->Wait(step + 1), step + 1)
          << "it is late for one step only";
      for (auto& puppet : two) puppet->Wait(step + 1);
      for (const auto& puppet : three) {
        ASSERT_EQ(puppet->weights(), two[0]->weights()) << "step " << step;
      }
    }
    for (int32_t v = 0; v < 3; ++v) {
      EXPECT_EQ(three[static_cast<size_t>(v)]->client().missed(v), 4);
    }
  }
}

TEST(BackupWorkersTest, AProgramThatStartsAnewRepeatsTheStepThatIsNotDecided) {
  const ParamTable table = CountingTable();
  Servers servers(table, {.replicas = 2, .servers = 2, .backups = 1});
  servers.Initialize();
  Puppet other(servers, table, 1);
  other.Push(0, 1);
  EXPECT_EQ(other.Wait(1), 1);
  {
    Puppet interrupted(servers, table, 0);
    EXPECT_EQ(*interrupted.client().Clock(0), 1) << "it is late for step 0 without having pushed";
  }
  Puppet again(servers, table, 0);
  other.Push(1, 1);
  EXPECT_EQ(other.Wait(2), 2);
  again.Push(0, 0);
  EXPECT_EQ(again.Wait(1), 2);
  EXPECT_EQ(*again.client().Clock(0), 2);
  again.Push(2, 0);
  EXPECT_EQ(again.Wait(3), 3) << "now the other one is late";
}

// What nobody should send, while others train.
TEST(BackupWorkersTest, NonsenseAboutTheQuorumKillsNoServerAndMixesNoStep) {
  class Ignore final : public rpc::StreamHandler {
   public:
    void OnMessage(rpc::Message) override {}
    void OnClosed(absl::Status) override {}
  };
  const ParamTable table = CountingTable();
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  Servers servers(table, {.replicas = 3, .servers = 2, .backups = 1});
  servers.Initialize();
  Readings readings(table, servers.partition(), 3, 2);
  auto workers = CountingWorkers({{0}, {1}, {2}}, 3, 1);
  std::thread training([&] { RunCounting(servers, table, readings, workers, 40); });
  std::vector<std::shared_ptr<rpc::Stream>> streams;
  for (const std::string& address : servers.addresses()) {
    streams.push_back(
        *servers.transport().Connect(address, WorkerHello(9), std::make_unique<Ignore>(), 10'000));
  }
  const Partition& partition = servers.partition();
  for (int i = 0; i < 500; ++i) {
    const auto slice = static_cast<int32_t>(rng() % partition.slices.size());
    rpc::Message message;
    switch (rng() % 4) {
      case 0:  // far ahead, or to the arbiter, which decides by itself
        message = QuorumMessage(slice, {1000, {true, true, false}});
        if (partition.server[static_cast<size_t>(slice)] == partition.server[0]) {
          message.header.step = static_cast<int64_t>(rng() % 40);
        }
        break;
      case 1:
        message = QuorumMessage(slice, {1000, ReplicaSet(3, rng() % 2 == 0)});
        break;
      case 2:
        message = ArrivedMessage(static_cast<int32_t>(rng() % 5), 1000);
        break;
      default:
        message =
            QuorumMessage(slice, {static_cast<int64_t>(rng() % 40), ReplicaSet(1 + rng() % 40)});
    }
    message.header.slice = static_cast<uint32_t>(slice);
    const int server = partition.server[static_cast<size_t>(slice)];
    EXPECT_TRUE(streams[static_cast<size_t>(server)]->Send(std::move(message)).ok());
  }
  training.join();
  EXPECT_GT(servers.server(0).stats().refused + servers.server(1).stats().refused, 0);
}

}  // namespace
}  // namespace muster::ps
