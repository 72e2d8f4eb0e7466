// Whole jobs over gRPC: the transport changes no bit of the result. Apart from cluster_test,
// because gRPC is not instrumented for tsan.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "rpc/grpc_transport.h"
#include "rpc/shared_transport.h"
#include "tests/harness/cluster.h"
#include "tests/harness/delay_transport.h"
#include "tests/harness/temporary_folder.h"
#include "tests/harness/toy_module.h"

namespace muster::harness {
namespace {

ClusterResult RunToy(int trainers, int servers, rpc::Transport* transport,
                     const std::string& codec = "none", double clip_norm = 0,
                     const std::string& pull = "none") {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = ToyJob(20);
  options.job.mutable_training()->mutable_codec()->set_push(codec);
  options.job.mutable_training()->mutable_codec()->set_pull(pull);
  options.job.mutable_training()->mutable_optimizer()->set_clip_norm(clip_norm);
  options.replicas = 5;
  options.trainers = trainers;
  options.servers = servers;
  options.job_dir = folder.path();
  if (transport != nullptr) {
    options.transport = transport;
    options.listen_address = "127.0.0.1:0";
  }
  return Cluster(options).Run();
}

TEST(GrpcCluster, BspGivesTheBitsOfTheInProcessTransport) {
  const ClusterResult reference = RunToy(5, 1, nullptr);
  ASSERT_TRUE(reference.status.ok()) << reference.status;
  const auto log = Log::Discard();
  auto grpc = rpc::MakeGrpcTransport(rpc::GrpcOptions(), *log);
  ASSERT_TRUE(grpc.ok()) << grpc.status();
  for (int servers : {1, 3}) {
    const ClusterResult result = RunToy(/*trainers=*/5, servers, grpc->get());
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.weights, reference.weights) << servers << " servers";
  }
}

TEST(GrpcCluster, BspGivesTheSameBitsUnderRandomDelays) {
  const ClusterResult reference = RunToy(1, 1, nullptr);
  const auto log = Log::Discard();
  auto grpc = rpc::MakeGrpcTransport(rpc::GrpcOptions(), *log);
  ASSERT_TRUE(grpc.ok()) << grpc.status();
  for (uint64_t seed : {4, 5}) {
    const auto delayed =
        MakeDelayTransport(**grpc, DelayOptions{.seed = seed, .max_delay_us = 2000});
    const ClusterResult result = RunToy(/*trainers=*/2, /*servers=*/2, delayed.get());
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.weights, reference.weights) << "delays of seed " << seed;
  }
}

// The gradients are summed where the trainers wrote them, the parameters copied from where the
// shards did; all roles share one transport, which maps its memory twice.
TEST(GrpcCluster, BspGivesTheSameBitsThroughSharedMemory) {
  const ClusterResult reference = RunToy(1, 1, nullptr);
  const auto log = Log::Discard();
  for (const std::string ring_service : {"", "params"}) {
    for (const auto& [trainers, servers] : {std::pair(1, 1), {2, 3}, {5, 2}}) {
      auto grpc = rpc::MakeGrpcTransport(rpc::GrpcOptions(), *log);
      ASSERT_TRUE(grpc.ok()) << grpc.status();
      const auto shared = rpc::MakeSharedTransport(
          *std::move(grpc), *log, {.least_bytes = 1, .ring_service = ring_service});
      ASSERT_TRUE(shared.ok()) << shared.status();
      const ClusterResult result = RunToy(trainers, servers, shared->get());
      ASSERT_TRUE(result.status.ok()) << result.status;
      EXPECT_EQ(result.weights, reference.weights) << trainers << " trainers, " << servers;
      EXPECT_GT((*shared)->shared_bytes(), 0);
      EXPECT_EQ((*shared)->ring_messages() > 0, !ring_service.empty());
    }
  }
}

// What a stream that broke has shown of memory is shown again on the next one, whatever the server
// still sums out of it.
TEST(GrpcCluster, BspGivesTheSameBitsThoughConnectionsToServersBreak) {
  const ClusterResult reference = RunToy(1, 1, nullptr);
  const auto log = Log::Discard();
  for (const bool shared : {false, true}) {
    for (int64_t messages : {0, 1, 2, 3, 5, 8}) {
      SCOPED_TRACE(testing::Message() << (shared ? "shared memory, " : "") << messages);
      auto grpc = rpc::MakeGrpcTransport(rpc::GrpcOptions(), *log);
      ASSERT_TRUE(grpc.ok()) << grpc.status();
      std::unique_ptr<rpc::Transport> transport = *std::move(grpc);
      if (shared) {
        auto over = rpc::MakeSharedTransport(std::move(transport), *log,
                                             {.least_bytes = 1, .ring_service = "params"});
        ASSERT_TRUE(over.ok()) << over.status();
        transport = *std::move(over);
      }
      const TemporaryFolder folder;
      std::optional<Cluster> cluster;
      std::atomic<int> anew = 0;
      std::atomic<bool> broken[2] = {false, false};  // by trainer
      ClusterOptions options;
      options.job = ToyJob(20);
      options.trainers = 2;
      options.servers = 2;
      options.replicas = 5;
      options.job_dir = folder.path();
      options.transport = transport.get();
      options.listen_address = "127.0.0.1:0";
      options.make_module = [&] {
        return MakeToyModule({.before_get = [&](int64_t draw) {
          for (int trainer = 0; trainer < 2; ++trainer) {
            const bool now = draw >= int64_t{5} * 8 * (5 + 6 * trainer);
            if (now && !broken[trainer].exchange(true)) cluster->Break(trainer, messages);
          }
        }});
      };
      options.on_status = [&](const master::StatusLine& line) {
        const auto* message = std::get_if<master::MessageLine>(&line);
        if (message != nullptr && message->text.find("anew") != std::string::npos) ++anew;
      };
      cluster.emplace(std::move(options));
      const ClusterResult result = cluster->Run();
      ASSERT_TRUE(result.status.ok()) << result.status;
      EXPECT_EQ(result.weights, reference.weights);
      EXPECT_GE(anew, 2);
    }
  }
}

TEST(GrpcCluster, ClippingByNormGivesTheSameBitsOnEveryTransport) {
  const auto log = Log::Discard();
  const ClusterResult reference = RunToy(1, 1, nullptr, "bf16", 0.1);
  ASSERT_TRUE(reference.status.ok()) << reference.status;
  EXPECT_NE(reference.weights, RunToy(1, 1, nullptr, "bf16").weights) << "nothing was clipped";
  auto grpc = rpc::MakeGrpcTransport(rpc::GrpcOptions(), *log);
  ASSERT_TRUE(grpc.ok()) << grpc.status();
  for (uint64_t seed : {6, 7}) {
    const auto delayed =
        MakeDelayTransport(**grpc, DelayOptions{.seed = seed, .max_delay_us = 2000});
    const ClusterResult wired = RunToy(/*trainers=*/3, /*servers=*/2, delayed.get(), "bf16", 0.1);
    ASSERT_TRUE(wired.status.ok()) << wired.status;
    EXPECT_EQ(wired.weights, reference.weights) << "delays of seed " << seed;
  }
  const auto shared = rpc::MakeSharedTransport(*std::move(grpc), *log,
                                               {.least_bytes = 1, .ring_service = "params"});
  ASSERT_TRUE(shared.ok()) << shared.status();
  const ClusterResult mapped = RunToy(/*trainers=*/5, /*servers=*/2, shared->get(), "bf16", 0.1);
  ASSERT_TRUE(mapped.status.ok()) << mapped.status;
  EXPECT_EQ(mapped.weights, reference.weights) << "through shared memory";
  EXPECT_GT((*shared)->ring_messages(), 0);
}

TEST(GrpcCluster, ACodecIsAppliedOnEveryTransport) {
  const auto log = Log::Discard();
  for (const char* codec : {"bf16", "int8", "1bit", "topk"}) {
    const ClusterResult reference = RunToy(1, 1, nullptr, codec);
    ASSERT_TRUE(reference.status.ok()) << reference.status;
    auto grpc = rpc::MakeGrpcTransport(rpc::GrpcOptions(), *log);
    ASSERT_TRUE(grpc.ok()) << grpc.status();
    const ClusterResult wired = RunToy(/*trainers=*/3, /*servers=*/2, grpc->get(), codec);
    ASSERT_TRUE(wired.status.ok()) << wired.status;
    EXPECT_EQ(wired.weights, reference.weights) << codec << " over gRPC";
    const auto shared = rpc::MakeSharedTransport(*std::move(grpc), *log, {.least_bytes = 1});
    ASSERT_TRUE(shared.ok()) << shared.status();
    const ClusterResult mapped = RunToy(/*trainers=*/2, /*servers=*/1, shared->get(), codec);
    ASSERT_TRUE(mapped.status.ok()) << mapped.status;
    EXPECT_EQ(mapped.weights, reference.weights) << codec << " through shared memory";
    EXPECT_GT((*shared)->shared_bytes(), 0);
  }
}

TEST(GrpcCluster, PulledParametersAreEncodedOnEveryTransport) {
  const auto log = Log::Discard();
  for (const char* pull : {"fp16", "bf16", "int8", "topk"}) {
    const ClusterResult reference = RunToy(1, 1, nullptr, "none", 0, pull);
    ASSERT_TRUE(reference.status.ok()) << reference.status;
    EXPECT_NE(reference.weights, RunToy(1, 1, nullptr).weights);
    auto grpc = rpc::MakeGrpcTransport(rpc::GrpcOptions(), *log);
    ASSERT_TRUE(grpc.ok()) << grpc.status();
    const ClusterResult wired = RunToy(/*trainers=*/3, /*servers=*/2, grpc->get(), "none", 0, pull);
    ASSERT_TRUE(wired.status.ok()) << wired.status;
    EXPECT_EQ(wired.weights, reference.weights) << pull << " over gRPC";
    const auto shared = rpc::MakeSharedTransport(*std::move(grpc), *log,
                                                 {.least_bytes = 1, .ring_service = "params"});
    ASSERT_TRUE(shared.ok()) << shared.status();
    const ClusterResult mapped =
        RunToy(/*trainers=*/2, /*servers=*/2, shared->get(), "none", 0, pull);
    ASSERT_TRUE(mapped.status.ok()) << mapped.status;
    EXPECT_EQ(mapped.weights, reference.weights) << pull << " through shared memory";
    EXPECT_GT((*shared)->shared_bytes(), 0);
  }
}

}  // namespace
}  // namespace muster::harness
