// Whole jobs in one process: what the user is promised about results, whatever the number of
// processes and servers, the timing and the transport, and about failures. Interruptions and what
// comes after them: resume_cluster_test.cc.
#include "tests/harness/cluster.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <future>
#include <thread>
#include <tuple>

#include "master/job_directory.h"
#include "rpc/inproc_transport.h"
#include "telemetry/file.h"
#include "tests/harness/delay_transport.h"
#include "tests/harness/temporary_folder.h"
#include "tests/harness/toy_module.h"
#include "tests/harness/toy_runs.h"

namespace muster::harness {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kSteps = 20;

// The weights of the reference: five replicas, each a trainer of its own, one server.
const std::vector<float>& Reference() {
  static const std::vector<float> weights = RunToy(ToyJob(kSteps), 5, 5, 1).weights;
  return weights;
}

TEST(Cluster, LearnsTheToyTask) {
  Job job = ToyJob(200);
  const ClusterResult result = RunToy(job, 2, 2, 2);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.state.state, master::RunState::kSucceeded);
  EXPECT_EQ(result.state.step, 200);
  EXPECT_GT(result.state.metrics.test_accuracy.value_or(0), 0.9);
  EXPECT_GT(result.state.metrics.validation_accuracy.value_or(0), 0.9);
  EXPECT_EQ(result.state.replicas.size(), 4u) << "master, a worker, two servers";
}

TEST(Cluster, BspIsBitIdenticalOnAnyNumberOfProcesses) {
  ASSERT_FALSE(Reference().empty());
  for (int trainers : {1, 2}) {
    const ClusterResult result = RunToy(ToyJob(kSteps), 5, trainers, 1);
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.weights, Reference()) << trainers << " trainers";
  }
}

TEST(Cluster, BspIsBitIdenticalOnAnyNumberOfServersAndShards) {
  for (int servers : {2, 3}) {
    Job job = ToyJob(kSteps);
    job.mutable_training()->set_server_shards(servers);
    const ClusterResult result = RunToy(job, 5, 5, servers);
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.weights, Reference()) << servers << " servers";
  }
}

TEST(Cluster, BspIsBitIdenticalUnderRandomDelays) {
  for (uint64_t seed : {1, 2, 3}) {
    const auto inner = rpc::MakeInprocTransport();
    const auto delayed =
        MakeDelayTransport(*inner, DelayOptions{.seed = seed, .max_delay_us = 2000});
    const ClusterResult result = RunToy(ToyJob(kSteps), 5, 3, 2, delayed.get());
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.weights, Reference()) << "delays of seed " << seed;
  }
}

TEST(Cluster, ATraceShowsEveryRoleAndChangesNoBit) {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = ToyJob(kSteps);
  options.job.mutable_training()->mutable_trace()->set_from_step(1);
  options.job.mutable_training()->mutable_trace()->set_steps(kSteps);
  options.replicas = 5;
  options.trainers = 3;
  options.job_dir = folder.path();
  const ClusterResult result = Cluster(options).Run();
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.weights, Reference());
  const auto trace = ReadFile(folder.path() + "/trace.json");
  ASSERT_TRUE(trace.ok()) << trace.status();
  for (const char* name : {"chief-0", "worker-0", "worker-1", "ps-0", "trainer", "shard 0"}) {
    EXPECT_THAT(*trace, HasSubstr(fmt::format("\"name\":\"{}\"", name)));
  }
}

TEST(Cluster, MoreReplicasGiveTheResultOfOneOnTheSameGlobalBatches) {
  Job one = ToyJob(kSteps);
  one.mutable_training()->set_batch_size(5 * ToyJob(1).training().batch_size());
  const ClusterResult result = RunToy(one, 1, 1, 1);
  ASSERT_TRUE(result.status.ok()) << result.status;
  ASSERT_EQ(result.weights.size(), Reference().size());
  // Sums of 40 float32 terms in another order, over 20 steps of rate 0.2: far below 1e-4, while a
  // wrong batch would show at 1e-2.
  for (size_t i = 0; i < result.weights.size(); ++i) {
    ASSERT_NEAR(result.weights[i], Reference()[i], 1e-4) << "element " << i;
  }
}

class EveryCodec : public ::testing::TestWithParam<std::string> {
 protected:
  static Job CodecJob(int64_t steps) {
    Job job = ToyJob(steps);
    job.mutable_training()->mutable_codec()->set_push(GetParam());
    ParameterCodec* bias = job.mutable_training()->mutable_codec()->add_parameters();
    bias->set_pattern("*bias");
    bias->set_push("none");
    return job;
  }
};

TEST_P(EveryCodec, IsBitIdenticalOnAnyNumberOfProcessesAndServers) {
  const ClusterResult one = RunToy(CodecJob(kSteps), 5, 1, 1);
  ASSERT_TRUE(one.status.ok()) << one.status;
  EXPECT_NE(one.weights, Reference()) << "the codec changed nothing";
  EXPECT_TRUE(one.state.exact);
  const ClusterResult many = RunToy(CodecJob(kSteps), 5, 3, 2);
  ASSERT_TRUE(many.status.ok()) << many.status;
  EXPECT_EQ(many.weights, one.weights);
}

TEST_P(EveryCodec, LearnsTheToyTask) {
  const ClusterResult result = RunToy(CodecJob(200), 2, 2, 2);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_GT(result.state.metrics.test_accuracy.value_or(0), 0.9);
}

// The second run has other processes and servers; the replicas' residuals find them.
TEST_P(EveryCodec, AResumedRunGivesTheBitsOfOneThatWasNeverInterrupted) {
  const ClusterResult whole = RunToy(CodecJob(kSteps), 5, 3, 2);
  ASSERT_TRUE(whole.status.ok()) << whole.status;
  TemporaryFolder folder;
  ClusterOptions options;
  options.replicas = 5;
  options.job_dir = folder.path();
  int64_t done = 0;
  for (const auto& [steps, trainers, servers] :
       {std::tuple(int64_t{7}, 2, 1), {int64_t{12}, 5, 3}, {kSteps, 1, 2}}) {
    options.job = CodecJob(steps);
    options.job.mutable_training()->mutable_checkpoints()->set_interval(5);
    options.trainers = trainers;
    options.servers = servers;
    const ClusterResult part = Cluster(options).Run();
    ASSERT_TRUE(part.status.ok()) << part.status;
    EXPECT_EQ(part.state.resumed_from, done == 0 ? -1 : done);
    EXPECT_TRUE(part.state.exact);
    EXPECT_EQ(part.weights == whole.weights, steps == kSteps) << "after " << steps << " steps";
    done = steps;
  }
}

INSTANTIATE_TEST_SUITE_P(Codecs, EveryCodec,
                         ::testing::Values("fp16", "bf16", "int8", "1bit", "topk"),
                         [](const auto& info) { return info.param; });

// "push pull", of all weights but the biases.
class EveryPullCodec : public ::testing::TestWithParam<std::string> {
 protected:
  static Job PullJob(int64_t steps) {
    Job job = ToyJob(steps);
    CodecSpec& codec = *job.mutable_training()->mutable_codec();
    codec.set_push(GetParam().substr(0, GetParam().find(' ')));
    codec.set_pull(GetParam().substr(GetParam().find(' ') + 1));
    codec.add_parameters()->set_pattern("*bias");
    return job;
  }
};

TEST_P(EveryPullCodec, IsBitIdenticalOnAnyNumberOfProcessesAndServersAndLearns) {
  const ClusterResult one = RunToy(PullJob(kSteps), 5, 1, 1);
  ASSERT_TRUE(one.status.ok()) << one.status;
  EXPECT_NE(one.weights, Reference()) << "the codec changed nothing";
  EXPECT_TRUE(one.state.exact);
  for (const auto& [trainers, servers] : {std::pair(3, 2), {5, 3}}) {
    const ClusterResult many = RunToy(PullJob(kSteps), 5, trainers, servers);
    ASSERT_TRUE(many.status.ok()) << many.status;
    EXPECT_EQ(many.weights, one.weights) << trainers << " trainers, " << servers << " servers";
  }
  for (const Consistency::Mode mode : {Consistency::BSP, Consistency::ASYNC}) {
    Job job = PullJob(200);
    job.mutable_training()->mutable_consistency()->set_mode(mode);
    const ClusterResult result = RunToy(job, 2, 2, 2);
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_GT(result.state.metrics.test_accuracy.value_or(0), 0.9);
  }
}

INSTANTIATE_TEST_SUITE_P(Codecs, EveryPullCodec,
                         ::testing::Values("none fp16", "none bf16", "int8 bf16"),
                         [](const auto& info) {
                           std::string name = info.param;
                           name[name.find(' ')] = '_';
                           return name;
                         });

class EveryMode : public ::testing::TestWithParam<Consistency::Mode> {};

TEST_P(EveryMode, FinishesAndLearns) {
  Job job = ToyJob(200, /*checkpoint_interval=*/50);
  job.mutable_training()->mutable_consistency()->set_mode(GetParam());
  if (GetParam() == Consistency::SSP) {
    job.mutable_training()->mutable_consistency()->set_staleness(3);
  }
  const ClusterResult result = RunToy(job, 3, 3, 2);
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.checkpoint_step, 200);
  EXPECT_GT(result.state.metrics.test_accuracy.value_or(0), 0.9);
  EXPECT_EQ(result.state.exact, GetParam() == Consistency::BSP);
}

INSTANTIATE_TEST_SUITE_P(Modes, EveryMode,
                         ::testing::Values(Consistency::BSP, Consistency::SSP, Consistency::ASYNC),
                         [](const auto& info) { return Consistency::Mode_Name(info.param); });

// Three replicas, of which each step counts two.
Job BackupJob(int64_t steps) {
  Job job = ToyJob(steps, /*checkpoint_interval=*/50);
  job.mutable_training()->mutable_consistency()->set_backup_workers(1);
  job.mutable_training()->mutable_evaluation()->set_interval(20);
  return job;
}

TEST(Cluster, WithBackupWorkersAJobFinishesAndLearns) {
  for (const auto& [trainers, servers] : {std::pair(3, 1), {3, 3}, {2, 2}, {1, 1}}) {
    const auto inner = rpc::MakeInprocTransport();
    const auto delayed = MakeDelayTransport(
        *inner, DelayOptions{.seed = static_cast<uint64_t>(servers), .max_delay_us = 500});
    const ClusterResult result =
        RunToy(BackupJob(200), 3, trainers, servers, servers > 1 ? delayed.get() : nullptr);
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.checkpoint_step, 200);
    EXPECT_EQ(result.state.step, 200);
    EXPECT_GT(result.state.metrics.test_accuracy.value_or(0), 0.9);
    EXPECT_FALSE(result.state.exact) << "who is late decides";
  }
}

// Whoever it is: also the chief, who evaluates.
TEST(Cluster, WithBackupWorkersAStalledTrainerStopsNobody) {
  for (const int64_t stalled : {0, 2}) {
    TemporaryFolder folder;
    ClusterOptions options;
    options.job = BackupJob(200);
    options.job.mutable_training()->mutable_codec()->set_push("int8");
    options.replicas = options.trainers = 3;
    options.servers = 2;
    options.job_dir = folder.path();
    std::promise<void> ahead;
    bool told = false;
    options.on_status = [&](const master::StatusLine& line) {
      const auto* progress = std::get_if<master::ProgressLine>(&line);
      if (progress == nullptr || progress->step < 60 || told) return;
      told = true;
      ahead.set_value();
    };
    options.make_module = [stalled, after = ahead.get_future().share()] {
      return MakeToyModule({.before_get = [=](int64_t draw) {
        if (draw == (10 * 3 + stalled) * 8) after.wait();
      }});
    };
    const ClusterResult result = Cluster(options).Run();
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.checkpoint_step, 200);
    EXPECT_GT(result.state.metrics.test_accuracy.value_or(0), 0.9);
    const auto history = ReadFile(folder.path() + "/summaries/history.jsonl");
    ASSERT_TRUE(history.ok()) << history.status();
    int64_t missed = 0;
    for (size_t at = 0; (at = history->find("\"missed\":", at)) != std::string::npos; ++at) {
      missed += std::stoll(history->substr(at + 9));
    }
    EXPECT_GE(missed, 45) << "it was away for fifty steps";
    EXPECT_THAT(*ReadFile(folder.path() + "/report.html"), HasSubstr("steps that did without it"));
  }
}

TEST(Cluster, WithBackupWorkersAnInterruptedRunGoesOn) {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = BackupJob(400);
  options.replicas = options.trainers = 3;
  options.servers = 2;
  options.job_dir = folder.path();
  const ClusterResult stopped = RunAndInterrupt(options, /*at=*/30, /*end=*/60);
  EXPECT_TRUE(absl::IsCancelled(stopped.status)) << stopped.status;
  ASSERT_GE(stopped.checkpoint_step, 30);
  EXPECT_EQ(stopped.checkpoint_step, stopped.state.step);

  options.job.mutable_training()->mutable_schedule(0)->set_steps(stopped.checkpoint_step + 20);
  options.servers = 1;
  Job without = options.job;
  without.mutable_training()->mutable_consistency()->clear_backup_workers();
  std::swap(options.job, without);
  EXPECT_THAT(std::string(Cluster(options).Run().status.message()),
              HasSubstr("training.consistency.backupWorkers was 1, is 0"));
  std::swap(options.job, without);
  const ClusterResult resumed = Cluster(options).Run();
  ASSERT_TRUE(resumed.status.ok()) << resumed.status;
  EXPECT_EQ(resumed.state.resumed_from, stopped.checkpoint_step);
  EXPECT_EQ(resumed.checkpoint_step, stopped.checkpoint_step + 20);
}

// A job that clips by norm; its codec keeps the parameters from being one slice.
Job ClippedJob(double clip_norm, int64_t steps = kSteps) {
  Job job = ToyJob(steps);
  job.mutable_training()->mutable_optimizer()->set_clip_norm(clip_norm);
  job.mutable_training()->mutable_codec()->set_push("int8");
  return job;
}

TEST(Cluster, ClippingByNormIsBitIdenticalOnAnyNumberOfProcessesAndServers) {
  const ClusterResult one = RunToy(ClippedJob(0.1), 5, 1, 1);
  ASSERT_TRUE(one.status.ok()) << one.status;
  EXPECT_NE(one.weights, RunToy(ClippedJob(0), 5, 1, 1).weights) << "nothing was clipped";
  EXPECT_EQ(RunToy(ClippedJob(1e9), 5, 1, 1).weights, RunToy(ClippedJob(0), 5, 1, 1).weights);
  for (const auto& [trainers, servers] : {std::pair(1, 3), {2, 1}, {2, 2}, {5, 1}, {5, 3}}) {
    const auto inner = rpc::MakeInprocTransport();
    const auto delayed = MakeDelayTransport(
        *inner, DelayOptions{.seed = static_cast<uint64_t>(trainers), .max_delay_us = 2000});
    const ClusterResult many = RunToy(ClippedJob(0.1), 5, trainers, servers, delayed.get());
    ASSERT_TRUE(many.status.ok()) << many.status;
    EXPECT_EQ(many.weights, one.weights) << trainers << " trainers, " << servers << " servers";
  }
}

// With one replica a gradient is its own mean, so it is the same gradient that is clipped.
TEST(Cluster, UnderSspAndAsyncEachReplicaClipsItsOwnGradient) {
  Job job = ClippedJob(0.1);
  job.mutable_training()->mutable_codec()->set_push("none");
  const ClusterResult bsp = RunToy(job, 1, 1, 1);
  ASSERT_TRUE(bsp.status.ok()) << bsp.status;
  for (const Consistency::Mode mode : {Consistency::SSP, Consistency::ASYNC}) {
    job.mutable_training()->mutable_consistency()->set_mode(mode);
    const ClusterResult own = RunToy(job, 1, 1, 2);
    ASSERT_TRUE(own.status.ok()) << own.status;
    ASSERT_EQ(own.weights.size(), bsp.weights.size());
    // 20 steps of rate 0.2, whose gradients differ in the last bits.
    for (size_t i = 0; i < own.weights.size(); ++i) {
      ASSERT_NEAR(own.weights[i], bsp.weights[i], 1e-5) << "element " << i;
    }
  }
}

TEST(Cluster, LambIsBitIdenticalOnAnyNumberOfProcessesAndServersAndLearns) {
  Job job = ClippedJob(1);
  job.mutable_training()->mutable_optimizer()->set_name("lamb");
  job.mutable_training()->mutable_optimizer()->set_weight_decay(0.01);
  job.mutable_training()->mutable_schedule(0)->set_learning_rate(0.02);
  const ClusterResult one = RunToy(job, 5, 1, 1);
  ASSERT_TRUE(one.status.ok()) << one.status;
  for (const auto& [trainers, servers] : {std::pair(1, 2), {2, 3}, {5, 2}}) {
    const auto inner = rpc::MakeInprocTransport();
    const auto delayed = MakeDelayTransport(
        *inner, DelayOptions{.seed = static_cast<uint64_t>(servers), .max_delay_us = 2000});
    const ClusterResult many = RunToy(job, 5, trainers, servers, delayed.get());
    ASSERT_TRUE(many.status.ok()) << many.status;
    EXPECT_EQ(many.weights, one.weights) << trainers << " trainers, " << servers << " servers";
  }
  job.mutable_training()->mutable_schedule(0)->set_steps(200);
  const ClusterResult learned = RunToy(job, 2, 2, 2);
  ASSERT_TRUE(learned.status.ok()) << learned.status;
  EXPECT_GT(learned.state.metrics.test_accuracy.value_or(0), 0.9);
}

// How far replica 1 moves the weights under ASYNC when it starts its 40 steps as the chief has all
// but finished its own: until then the global step is 0, whose learning rate is 0.
double MovedByAStaleReplica(bool scale_by_staleness) {
  Job job = ToyJob(/*steps=*/1);
  job.mutable_training()->mutable_schedule(0)->set_learning_rate(0);
  const std::vector<float> start = RunToy(job, 1, 1, 1).weights;
  Stage* const rest = job.mutable_training()->add_schedule();
  rest->set_steps(39);
  rest->set_learning_rate(0.001);  // small: the gradients hardly change on the way
  Consistency* const consistency = job.mutable_training()->mutable_consistency();
  consistency->set_mode(Consistency::ASYNC);
  consistency->set_scale_by_staleness(scale_by_staleness);

  TemporaryFolder folder;
  ClusterOptions options;
  options.job = job;
  options.replicas = options.trainers = 2;
  options.job_dir = folder.path();
  std::promise<void> chief_is_ahead;
  options.make_module = [&, after = chief_is_ahead.get_future().share()] {
    return MakeToyModule({.before_get = [&, after](int64_t draw) {
      const int64_t item = draw / 8;
      if (item % 2 == 1) after.wait();
      if (draw == 39 * 2 * 8) chief_is_ahead.set_value();  // read two steps before its turn
    }});
  };
  const ClusterResult result = Cluster(options).Run();
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.weights.size(), start.size());
  double sum = 0;
  for (size_t i = 0; i < result.weights.size(); ++i) {
    sum += std::pow(static_cast<double>(result.weights[i]) - start[i], 2);
  }
  return std::sqrt(sum);
}

TEST(Cluster, AsyncMayCountStaleGradientsLess) {
  // Replica 1's gradients are 37 to 40, 36 to 39 … steps behind, and the sum of 1/n for n up to 39
  // is 4.3: with what the chief adds on its last three steps at most a quarter of the 39 that count
  // otherwise. They point about the same way.
  const double all = MovedByAStaleReplica(false);
  const double scaled = MovedByAStaleReplica(true);
  EXPECT_LT(scaled, 0.4 * all);
  EXPECT_GT(scaled, 0.04 * all);
}

TEST(Cluster, ANonFiniteGradientStopsTheJobAndNamesStepAndReplica) {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = ToyJob(40, /*checkpoint_interval=*/5);
  options.replicas = 3;
  options.trainers = 3;
  options.job_dir = folder.path();
  // Step 12 of replica 1 with batch 8: positions (12 * 3 + 1) * 8 … + 7.
  options.make_module = [] { return MakeToyModule({.poison_draw = (12 * 3 + 1) * 8 + 3}); };
  const ClusterResult result = Cluster(options).Run();
  ASSERT_FALSE(result.status.ok());
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("step 12"));
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("replica 1"));
  EXPECT_EQ(result.state.state, master::RunState::kFailed);
  EXPECT_EQ(result.checkpoint_step, 10) << "the last good checkpoint stays";
}

TEST(Cluster, ASampleThatCannotBeReadStopsTheJobAndNamesTheRole) {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = ToyJob(40);
  options.replicas = options.trainers = 2;
  options.job_dir = folder.path();
  options.make_module = [] { return MakeToyModule({.fail_draw = (5 * 2 + 1) * 8}); };
  const ClusterResult result = Cluster(options).Run();
  ASSERT_FALSE(result.status.ok());
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("worker-0"));
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("toy sample cannot be read"));
}

TEST(Cluster, CheckpointsThatCannotBeWrittenDoNotStopTrainingButTheLastDoes) {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = ToyJob(20, /*checkpoint_interval=*/5);
  options.job_dir = folder.path();
  const master::JobDirectory dir(folder.path());
  ASSERT_TRUE(master::CreateJobDirectory(dir).ok());
  // Folders where the files of steps 10 and 20 belong.
  for (int64_t step : {10, 20}) {
    std::filesystem::create_directories(dir.checkpoint(step) + "/ps-0.safetensors/in-the-way");
  }
  std::vector<std::string> warnings;
  options.on_status = [&](const master::StatusLine& line) {
    if (const auto* message = std::get_if<master::MessageLine>(&line)) {
      warnings.push_back(message->text);
    }
  };
  const ClusterResult result = Cluster(options).Run();
  EXPECT_FALSE(result.status.ok());
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("last checkpoint"));
  EXPECT_THAT(warnings, ::testing::Contains(HasSubstr("checkpoint of step 10 was not written")));
  EXPECT_EQ(result.checkpoint_step, 15);
}

}  // namespace
}  // namespace muster::harness
