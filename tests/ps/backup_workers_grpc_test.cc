// BSP with backup workers over gRPC, and over shared memory: all slices of a step count the same
// replicas, a stalled worker stops nobody, and no server reads a gradient that its worker has back.
#include <gmock/gmock.h>

#include <chrono>
#include <random>

#include "rpc/grpc_transport.h"
#include "rpc/shared_transport.h"
#include "tests/ps/backup_workers.h"

namespace muster::ps {
namespace {

// Messages are delayed where the seed is even.
void ExpectNoMix(rpc::Transport& transport, uint32_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  constexpr int kReplicas = 4, kBackups = 1;
  constexpr int64_t kSteps = 60;
  const ParamTable table = CountingTable();
  Servers servers(table, {.replicas = kReplicas,
                          .servers = 3,
                          .shards = 2,
                          .delay_seed = seed % 2 == 0 ? seed : 0,
                          .backups = kBackups,
                          .transport = &transport});
  servers.Initialize();
  Readings readings(table, servers.partition(), kReplicas, kReplicas - kBackups);
  auto workers = CountingWorkers({{0}, {1}, {2}, {3}}, kReplicas, kBackups);
  int64_t went_on = -1;
  bool stalled = false;
  for (size_t i = 0; i < workers.size(); ++i) {
    workers[i]->before_push = [&, i, rng = std::mt19937(seed + static_cast<uint32_t>(i))](
                                  int64_t step, bool half) mutable {
      if (i == 2 && stalled && went_on < 0 && !half) went_on = step;
      if (i == 2 && half && step >= 5 && !stalled) {
        stalled = true;
        readings.AwaitVersion(25);
      } else if (rng() % 8 == 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(rng() % 4000));
      }
    };
  }
  RunCounting(servers, table, readings, workers, kSteps);
  EXPECT_GE(went_on, 25);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(servers.server(i).stats().held_bytes, 0);
  servers.Stop();
}

TEST(BackupWorkersGrpcTest, AllSlicesOfAStepCountTheSameReplicas) {
  const auto log = Log::Discard();
  for (const uint32_t seed : {2, 3}) {
    auto grpc = rpc::MakeGrpcTransport(rpc::GrpcOptions(), *log);
    ASSERT_TRUE(grpc.ok()) << grpc.status();
    ExpectNoMix(**grpc, seed);
  }
}

TEST(BackupWorkersGrpcTest, TheSameThroughSharedMemory) {
  const auto log = Log::Discard();
  for (const uint32_t seed : {5, 7}) {  // not delayed: that transport shares nothing
    auto grpc = rpc::MakeGrpcTransport(rpc::GrpcOptions(), *log);
    ASSERT_TRUE(grpc.ok()) << grpc.status();
    const auto shared = rpc::MakeSharedTransport(
        *std::move(grpc), *log, {.least_bytes = 1, .ring_service = seed == 5 ? "" : "params"});
    ASSERT_TRUE(shared.ok()) << shared.status();
    ExpectNoMix(**shared, seed);
    EXPECT_GT((*shared)->shared_bytes(), 0);
  }
}

}  // namespace
}  // namespace muster::ps
