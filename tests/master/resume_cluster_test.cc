// Whole jobs in one process that are interrupted and resumed: with every optimizer to the same
// bits, on other machines with a warning, with another job not at all.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/device.h"
#include "master/job_directory.h"
#include "ps/optimizer.h"
#include "tests/harness/cluster.h"
#include "tests/harness/temporary_folder.h"
#include "tests/harness/toy_module.h"
#include "tests/harness/toy_runs.h"

namespace muster::harness {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;

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

TEST(ResumedCluster, ResumeOnAnotherDeviceGoesOnWithAWarning) {
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

TEST(ResumedCluster, ResumeAtTheEndEvaluatesAgainAndSucceeds) {
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

TEST(ResumedCluster, ResumeRefusesOtherDataAndTrainersThatHaveNotTheSame) {
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

TEST(ResumedCluster, ResumeRefusesAChangedFieldByName) {
  EXPECT_THAT(RefusedWith([](Training& training) { training.set_batch_size(9); }),
              HasSubstr("batchSize"));
}

TEST(ResumedCluster, ResumeRefusesAnotherCodecByName) {
  EXPECT_THAT(RefusedWith([](Training& training) { training.mutable_codec()->set_pull("bf16"); }),
              HasSubstr("training.codec was none, is none pull bf16"));
  EXPECT_THAT(RefusedWith([](Training& training) { training.mutable_codec()->set_push("fp16"); }),
              HasSubstr("training.codec was none, is fp16"));
}

TEST(ResumedCluster, ARunWithoutItsResidualsIsNotExactEverAfter) {
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

TEST(ResumedCluster, ResumeRefusesAnotherShapeOfTheScheduleByName) {
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

}  // namespace
}  // namespace muster::harness
