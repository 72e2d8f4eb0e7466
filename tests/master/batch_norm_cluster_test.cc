// A whole job of a model with batch norm: its statistics are what the replicas' batches were, the
// same bits whatever carries them, and outlive an interruption.
#include <gtest/gtest.h>

#include <tuple>
#include <vector>

#include "ps/init.h"
#include "rpc/grpc_transport.h"
#include "rpc/shared_transport.h"
#include "tests/harness/cluster.h"
#include "tests/harness/rows_module.h"
#include "tests/harness/temporary_folder.h"
#include "worker/shuffle.h"

namespace muster::harness {
namespace {

constexpr int kReplicas = 2;

ClusterOptions Options(const std::string& job_dir, int64_t steps, int trainers, int servers) {
  ClusterOptions options;
  options.job = ToyJob(steps, /*checkpoint_interval=*/3);
  options.job.mutable_training()->mutable_schedule(0)->set_learning_rate(0.02);
  options.job.mutable_training()->mutable_optimizer()->set_name("momentum");
  options.replicas = kReplicas;
  options.trainers = trainers;
  options.servers = servers;
  options.job_dir = job_dir;
  options.make_module = [] { return MakeRowsModule({.model = "conv_norm"}); };
  return options;
}

ClusterResult Train(int64_t steps, int trainers, int servers, rpc::Transport* transport = nullptr) {
  const TemporaryFolder folder;
  ClusterOptions options = Options(folder.path(), steps, trainers, servers);
  if (transport != nullptr) {
    options.transport = transport;
    options.listen_address = "127.0.0.1:0";
  }
  return Cluster(options).Run();
}

// What replica `v` pushes in the first step, beginning with `weights` (arenas).
std::vector<float> FirstPush(const Job& job, const ps::ParamTable& table,
                             const std::vector<float>& weights, int32_t v) {
  const auto log = Log::Discard();
  const auto device = MakeCpuDevice(1);
  const auto module = MakeRowsModule({.model = "conv_norm"});
  const auto seed = static_cast<uint64_t>(job.training().seed());
  const int64_t batch = job.training().batch_size();
  const auto data = *module->MakeDataset(worker::Split::kTraining, seed, *log);
  const auto model = module->MakeModel(*device);
  EXPECT_TRUE(model->Prepare(table, batch).ok());
  std::vector<float> inputs(static_cast<size_t>(batch * data->input_size()));
  std::vector<int32_t> labels(static_cast<size_t>(batch));
  const auto picks = worker::TrainingOrder(data->size(), seed, kReplicas, batch)(0, v);
  for (size_t i = 0; i < picks.size(); ++i) {
    const auto width = static_cast<size_t>(data->input_size());
    EXPECT_TRUE(data->Get(picks[i].index, picks[i].draw,
                          std::span(inputs).subspan(i * width, width), &labels[i])
                    .ok());
  }
  std::vector<float> grads(weights.size());
  model->Forward(weights, {inputs, labels, batch}, {seed, 0, v});
  model->Backward(weights, grads, [](ps::ParamId) {});
  return grads;
}

TEST(BatchNormCluster, AStepMovesTheStatisticsToTheMeanOfTheReplicasBatches) {
  const ClusterResult result = Train(1, 2, 2);
  ASSERT_TRUE(result.status.ok()) << result.status;
  const Job job = Options("", 1, 2, 2).job;
  const auto device = MakeCpuDevice(1);
  const auto table =
      *ps::ParamTable::Make(MakeRowsModule({.model = "conv_norm"})->MakeModel(*device)->params());
  std::vector<float> first(static_cast<size_t>(table.arena_size()));
  for (size_t p = 0; p < table.specs().size(); ++p) {
    ps::InitialValues(
        table.specs()[p], static_cast<uint64_t>(job.training().seed()), 0,
        std::span(first).subspan(static_cast<size_t>(table.offset(static_cast<ps::ParamId>(p))),
                                 static_cast<size_t>(table.specs()[p].size())));
  }
  const auto a = FirstPush(job, table, first, 0), b = FirstPush(job, table, first, 1);
  int compared = 0;
  size_t at = 0;  // in result.weights
  for (size_t p = 0; p < table.specs().size(); ++p) {
    const ps::ParamSpec& spec = table.specs()[p];
    const auto offset = static_cast<size_t>(table.offset(static_cast<ps::ParamId>(p)));
    for (size_t i = offset; i < offset + static_cast<size_t>(spec.size()); ++i, ++at) {
      if (spec.kind != ps::ParamSpec::Kind::kStatistic) continue;
      const double mean = (double{a[i]} + b[i]) / 2;
      EXPECT_NE(a[i], b[i]) << "the replicas have other batches";
      EXPECT_NEAR(result.weights[at], 0.9 * first[i] + 0.1 * mean, 1e-6) << spec.name;
      ++compared;
    }
  }
  EXPECT_EQ(compared, 4 * 64);
}

TEST(BatchNormCluster, LearnsAndIsEvaluatedByItsStatistics) {
  const ClusterResult result = Train(60, 2, 1);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_GT(result.state.metrics.test_accuracy.value_or(0), 0.95);
}

TEST(BatchNormCluster, IsBitIdenticalOnAnyProcessesServersAndTransports) {
  const ClusterResult reference = Train(6, 2, 1);
  ASSERT_TRUE(reference.status.ok()) << reference.status;
  for (const auto& [trainers, servers] : {std::pair(1, 1), {1, 3}, {2, 2}}) {
    EXPECT_EQ(Train(6, trainers, servers).weights, reference.weights)
        << trainers << " trainers, " << servers << " servers";
  }
  const auto log = Log::Discard();
  for (const bool share : {false, true}) {
    auto grpc = rpc::MakeGrpcTransport(rpc::GrpcOptions(), *log);
    ASSERT_TRUE(grpc.ok()) << grpc.status();
    std::unique_ptr<rpc::Transport> transport = *std::move(grpc);
    if (share) {
      auto shared = rpc::MakeSharedTransport(std::move(transport), *log, {.least_bytes = 1});
      ASSERT_TRUE(shared.ok()) << shared.status();
      transport = *std::move(shared);
    }
    EXPECT_EQ(Train(6, 2, 2, transport.get()).weights, reference.weights)
        << (share ? "shared memory" : "gRPC");
  }
}

TEST(BatchNormCluster, AResumedRunGivesTheBitsOfOneThatWasNeverInterrupted) {
  const ClusterResult whole = Train(6, 2, 1);
  const TemporaryFolder folder;
  for (const auto& [steps, trainers, servers] :
       {std::tuple(int64_t{3}, 2, 1), {int64_t{6}, 1, 2}}) {
    const ClusterResult part = Cluster(Options(folder.path(), steps, trainers, servers)).Run();
    ASSERT_TRUE(part.status.ok()) << part.status;
    EXPECT_EQ(part.state.resumed_from, steps == 3 ? -1 : 3);
    EXPECT_EQ(part.weights == whole.weights, steps == 6) << "after " << steps << " steps";
  }
}

}  // namespace
}  // namespace muster::harness
