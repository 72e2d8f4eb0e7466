// Whole jobs in one process: what the user is promised about results, whatever the number of
// processes and servers, the timing and the transport, and about interruptions and failures.
#include "tests/harness/cluster.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <future>
#include <thread>
#include <tuple>

#include "kernels/device.h"
#include "master/job_directory.h"
#include "ps/optimizer.h"
#include "rpc/inproc_transport.h"
#include "telemetry/file.h"
#include "tests/harness/delay_transport.h"
#include "tests/harness/temporary_folder.h"
#include "tests/harness/toy_module.h"

namespace muster::harness {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

constexpr int64_t kSteps = 20;

// Runs `job` in a folder of its own.
ClusterResult RunToy(const Job& job, int replicas, int trainers, int servers,
                     rpc::Transport* transport = nullptr) {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = job;
  options.replicas = replicas;
  options.trainers = trainers;
  options.servers = servers;
  options.job_dir = folder.path();
  options.transport = transport;
  return Cluster(options).Run();
}

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

// Interrupts the run of `options`, three replicas of the toy model, once it has finished `at`
// steps. No sample of step `end` is read before the master stops it, so it does not finish first.
ClusterResult RunAndInterrupt(ClusterOptions options, int64_t at, int64_t end) {
  Cluster* running = nullptr;
  std::promise<void> stopping;
  bool interrupted = false;
  options.on_status = [&](const master::StatusLine& line) {
    const auto* progress = std::get_if<master::ProgressLine>(&line);
    if (progress != nullptr && progress->step >= at && !interrupted) {
      interrupted = true;
      running->Interrupt("a test");
    }
    const auto* state = std::get_if<master::StateLine>(&line);
    if (state != nullptr && state->state == master::RunState::kCancelling) stopping.set_value();
  };
  options.make_module = [end, after = stopping.get_future().share()] {
    return MakeToyModule({.before_get = [end, after](int64_t draw) {
      if (draw < end * 3 * 8) return;
      after.wait();
      // Slowly on, so that the job does not end before the trainers are told to stop.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }});
  };
  Cluster cluster(std::move(options));
  running = &cluster;
  return cluster.Run();
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

struct Rule {
  std::string name;
  std::map<std::string, double> params;
  double clip_norm = 0;
  std::string codec = "none";
};
void PrintTo(const Rule& rule, std::ostream* out) {
  *out << rule.name << (rule.clip_norm > 0 ? " with clipNorm" : "");
  if (rule.codec != "none") *out << " with " << rule.codec;
}
class EveryOptimizer : public ::testing::TestWithParam<Rule> {};

TEST_P(EveryOptimizer, AnInterruptedRunEndsWithTheSameBits) {
  Job job = ToyJob(400, /*checkpoint_interval=*/15);
  OptimizerSpec& optimizer = *job.mutable_training()->mutable_optimizer();
  optimizer.set_name(GetParam().name);
  optimizer.mutable_params()->insert(GetParam().params.begin(), GetParam().params.end());
  optimizer.set_weight_decay(0.001);
  optimizer.set_clip_value(0.05);
  optimizer.set_clip_norm(GetParam().clip_norm);
  job.mutable_training()->mutable_codec()->set_push(GetParam().codec);
  Stage& stage = *job.mutable_training()->mutable_schedule(0);
  stage.set_learning_rate(0.02);
  stage.set_end_learning_rate(0.001);
  stage.set_shape(Stage::COSINE);
  const ClusterResult whole = RunToy(job, 3, 2, 2);
  ASSERT_TRUE(whole.status.ok()) << whole.status;

  TemporaryFolder folder;
  ClusterOptions options;
  options.job = job;
  options.replicas = 3;
  options.trainers = 3;
  options.servers = 1;
  options.job_dir = folder.path();
  const ClusterResult stopped = RunAndInterrupt(options, /*at=*/10, /*end=*/40);
  EXPECT_TRUE(absl::IsCancelled(stopped.status)) << stopped.status;
  EXPECT_EQ(stopped.state.state, master::RunState::kCancelled);
  EXPECT_GE(stopped.checkpoint_step, 10);
  EXPECT_LT(stopped.checkpoint_step, 400);

  options.trainers = 1;
  options.servers = 3;
  const ClusterResult resumed = Cluster(options).Run();
  ASSERT_TRUE(resumed.status.ok()) << resumed.status;
  EXPECT_EQ(resumed.state.resumed_from, stopped.checkpoint_step);
  EXPECT_EQ(resumed.weights, whole.weights);
}

// Those of the table with their defaults, rmsprop with all that it can keep, two phases, and what a
// codec keeps back.
std::vector<Rule> Rules() {
  std::vector<Rule> rules = {{"rmsprop", {{"centered", 1}, {"momentum", 0.5}}},
                             {"momentum", {}, 0.1},
                             {"lamb", {}, 0.1},
                             {"sgd", {}, 0, "topk"}};
  for (const std::string& name : ps::OptimizerNames()) rules.push_back({name, {}});
  return rules;
}
INSTANTIATE_TEST_SUITE_P(Optimizers, EveryOptimizer, ::testing::ValuesIn(Rules()));

TEST(Cluster, ResumeOnAnotherDeviceGoesOnWithAWarning) {
  TemporaryFolder folder;
  std::vector<std::string> warnings;
  ClusterOptions options;
  options.job = ToyJob(10);
  options.job_dir = folder.path();
  options.on_status = [&](const master::StatusLine& line) {
    const auto* message = std::get_if<master::MessageLine>(&line);
    if (message != nullptr && message->level == master::MessageLine::Level::kWarning) {
      warnings.push_back(message->text);
    }
  };
  for (const auto& [steps, threads, warned] :
       {std::tuple{10, 1, false}, {20, 1, false}, {30, 2, true}, {40, 2, false}}) {
    SCOPED_TRACE(steps);
    warnings.clear();
    options.job.mutable_training()->mutable_schedule(0)->set_steps(steps);
    options.make_device = [threads = threads] { return harness::Alone(MakeCpuDevice(threads)); };
    const ClusterResult run = Cluster(options).Run();
    ASSERT_TRUE(run.status.ok()) << run.status;
    EXPECT_EQ(run.checkpoint_step, steps);
    if (!warned) {
      EXPECT_THAT(warnings, ::testing::IsEmpty());
    } else {
      EXPECT_THAT(warnings, ::testing::ElementsAre(ContainsRegex(
                                "what computes was 1 thread, .*, is 2 threads, .*: the result will "
                                "not be bit-identical to an uninterrupted run")));
    }
  }
}

TEST(Cluster, ResumeAtTheEndEvaluatesAgainAndSucceeds) {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = ToyJob(10);
  options.job_dir = folder.path();
  ASSERT_TRUE(Cluster(options).Run().status.ok());
  const ClusterResult again = Cluster(options).Run();
  ASSERT_TRUE(again.status.ok()) << again.status;
  EXPECT_EQ(again.state.resumed_from, 10);
}

// A finished job that is resumed with another training section must be refused; why it was.
std::string RefusedWith(const std::function<void(Training&)>& change) {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = ToyJob(10);
  options.job_dir = folder.path();
  const ClusterResult first = Cluster(options).Run();
  EXPECT_TRUE(first.status.ok()) << first.status;
  change(*options.job.mutable_training());
  const ClusterResult refused = Cluster(options).Run();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status)) << refused.status;
  return std::string(refused.status.message());
}

TEST(Cluster, ResumeRefusesOtherDataAndTrainersThatHaveNotTheSame) {
  const TemporaryFolder folder;
  ClusterOptions options;
  options.job = ToyJob(10);
  options.trainers = options.replicas = 2;
  options.job_dir = folder.path();
  ASSERT_TRUE(Cluster(options).Run().status.ok());
  std::atomic<int64_t> samples = 240;
  options.job = ToyJob(20);
  options.make_module = [&] { return MakeToyModule({.samples = samples}); };
  samples = 200;
  EXPECT_THAT(
      std::string(Cluster(options).Run().status.message()),
      ContainsRegex("cannot resume from the checkpoint of step 10: the data .list of "
                    "samples. was [0-9a-f]{16}, is [0-9a-f]{16}. Set it back, or train anew"));
  const TemporaryFolder other;
  options.job_dir = other.path();
  options.make_module = [&] { return MakeToyModule({.samples = ++samples}); };
  EXPECT_THAT(std::string(Cluster(options).Run().status.message()),
              ContainsRegex("(chief-0|worker-0): the data differs from that of "));
}

TEST(Cluster, ResumeRefusesAChangedFieldByName) {
  EXPECT_THAT(RefusedWith([](Training& training) { training.set_batch_size(9); }),
              HasSubstr("batchSize"));
}

TEST(Cluster, ResumeRefusesAnotherCodecByName) {
  EXPECT_THAT(RefusedWith([](Training& training) { training.mutable_codec()->set_pull("bf16"); }),
              HasSubstr("training.codec was none, is none pull bf16"));
  EXPECT_THAT(RefusedWith([](Training& training) { training.mutable_codec()->set_push("fp16"); }),
              HasSubstr("training.codec was none, is fp16"));
}

TEST(Cluster, ARunWithoutItsResidualsIsNotExactEverAfter) {
  for (const char* codec : {"fp16", "int8"}) {
    TemporaryFolder folder;
    ClusterOptions options;
    options.job = ToyJob(10, /*checkpoint_interval=*/5);
    options.job.mutable_training()->mutable_codec()->set_push(codec);
    options.job_dir = folder.path();
    const ClusterResult whole = Cluster(options).Run();
    ASSERT_TRUE(whole.status.ok()) << whole.status;
    EXPECT_TRUE(whole.state.exact);
    // As a build without them wrote it.
    const master::JobDirectory dir(folder.path());
    auto checkpoint = master::NewestCheckpoint(dir, nullptr);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint->manifest.residuals.clear();
    ASSERT_TRUE(master::CommitCheckpoint(dir, checkpoint->manifest).ok());

    std::vector<std::string> warnings;
    options.on_status = [&](const master::StatusLine& line) {
      const auto* message = std::get_if<master::MessageLine>(&line);
      if (message != nullptr) warnings.push_back(message->text);
    };
    const bool loses = codec == std::string("int8");
    for (const int64_t steps : {20, 20}) {  // from 10 to 20, and from there to evaluate again
      options.job.mutable_training()->mutable_schedule(0)->set_steps(steps);
      const ClusterResult resumed = Cluster(options).Run();
      ASSERT_TRUE(resumed.status.ok()) << resumed.status;
      EXPECT_EQ(resumed.state.exact, !loses);
    }
    EXPECT_EQ(std::ranges::count_if(warnings,
                                    [](const std::string& text) {
                                      return text.find("has left to send") != std::string::npos;
                                    }),
              loses ? 1 : 0);
  }
}

TEST(Cluster, ResumeRefusesAnotherShapeOfTheScheduleByName) {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = ToyJob(10);
  Stage* stage = options.job.mutable_training()->mutable_schedule(0);
  stage->set_end_learning_rate(0.1);
  stage->set_shape(Stage::COSINE);
  options.job_dir = folder.path();
  ASSERT_TRUE(Cluster(options).Run().status.ok());
  stage->set_shape(Stage::LINEAR);
  const ClusterResult refused = Cluster(options).Run();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status)) << refused.status;
  EXPECT_THAT(std::string(refused.status.message()),
              HasSubstr("training.schedule up to step 10 was 10 of 10 steps from 0.2 to 0.1 "
                        "(COSINE), is 10 of 10 steps from 0.2 to 0.1 (LINEAR)"));
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
