// Jobs as BASIC_GPU runs them, whose parameters live on the GPU of the only trainer: bit for bit
// what a server on the host makes of the same gradients; with graphs, statistics, evaluations and
// checkpoints. The GPU is played by the host (host_gpu.h), or this machine's.
#include "master/one_process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "telemetry/log.h"
#include "telemetry/mutex.h"
#include "tests/harness/cluster.h"
#include "tests/harness/devices.h"
#include "tests/harness/fused_multiply_add.h"
#include "tests/harness/host_gpu.h"
#include "tests/harness/rows_module.h"
#include "tests/harness/temporary_folder.h"

namespace muster::harness {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using testing::HostGpuOptions;
using testing::HostGpuPace;
using testing::MakeHostGpu;

using MakeDevice = std::function<std::unique_ptr<Device>()>;

// Lines of all roles.
class Lines final : public Log {
 public:
  void Write(Level, std::string_view text) override {
    MutexLock lock(mu_);
    lines_.emplace_back(text);
  }
  std::vector<std::string> Get() const {
    MutexLock lock(mu_);
    return lines_;
  }

 private:
  mutable Mutex mu_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mu_);
};

// Where the parameters live.
enum class Parameters { kOnHost, kWithTrainer };

struct OneJob {
  std::string model = "tiny_conv";
  Job job = ToyJob(8);
  MakeDevice make_device = [] { return MakeHostGpu(); };
  std::string folder = "";  // the job's; "": one of its own
};

ClusterResult Train(const OneJob& run, Parameters parameters, Log* log = nullptr) {
  const TemporaryFolder own;
  ClusterOptions options;
  options.job = run.job;
  options.job_dir = run.folder.empty() ? own.path() : run.folder;
  options.make_module = [&run] { return MakeRowsModule({run.model}); };
  options.make_device = [&run] { return Alone(run.make_device()); };
  options.one_process = parameters == Parameters::kWithTrainer;
  options.role_log = log;
  return Cluster(options).Run();
}

Job JobOf(const std::string& optimizer, int64_t steps = 8) {
  Job job = ToyJob(steps, /*checkpoint_interval=*/3);
  Training& training = *job.mutable_training();
  training.mutable_optimizer()->set_name(optimizer);
  training.mutable_optimizer()->set_weight_decay(1e-3);
  training.mutable_optimizer()->set_clip_value(0.5);
  training.mutable_evaluation()->set_interval(4);
  Stage* const stage = training.add_schedule();
  stage->set_steps(training.schedule(0).steps() / 2);
  stage->set_learning_rate(0.05);
  training.mutable_schedule(0)->set_learning_rate(0.1);
  training.mutable_schedule(0)->set_steps(steps - stage->steps());
  return job;
}

void ExpectSame(const ClusterResult& got, const ClusterResult& want) {
  ASSERT_TRUE(want.status.ok()) << want.status;
  ASSERT_TRUE(got.status.ok()) << got.status;
  ASSERT_FALSE(want.weights.empty());
  EXPECT_EQ(got.weights, want.weights);
  EXPECT_EQ(got.checkpoint_step, want.checkpoint_step);
  EXPECT_EQ(got.state.metrics.train_loss, want.state.metrics.train_loss);
  EXPECT_EQ(got.state.metrics.validation_accuracy, want.state.metrics.validation_accuracy);
}

class OneProcessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::CpuFusesMultiplyAdd()) GTEST_SKIP() << "this CPU has no fused multiply-add";
  }
};

class OneProcessModelTest
    : public OneProcessTest,
      public ::testing::WithParamInterface<std::tuple<std::string, std::string>> {};

INSTANTIATE_TEST_SUITE_P(Models, OneProcessModelTest,
                         ::testing::Combine(::testing::Values("host_gpu", "late_host_gpu", "gpu"),
                                            ::testing::ValuesIn(worker::ImageModelNames())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param);
                         });

TEST_P(OneProcessModelTest, LearnsWhatAServerOnTheHostLearns) {
  const auto& [device, model] = GetParam();
  if (const auto made = testing::MakeTestDevice(device); !made.ok()) {
    GTEST_SKIP() << made.status().message();
  }
  for (const bool graphs : {true, false}) {
    const OneJob run{.model = model, .job = JobOf("momentum"), .make_device = [&] {
                       return *testing::MakeTestDevice(device, graphs);
                     }};
    Lines lines;
    ExpectSame(Train(run, Parameters::kWithTrainer, &lines), Train(run, Parameters::kOnHost));
    EXPECT_THAT(lines.Get(), Contains("device /gpu:0 (the parameters live where the trainer "
                                      "computes)"));
    EXPECT_THAT(lines.Get(), Not(Contains(HasSubstr("without CUDA graphs"))));
  }
}

TEST_F(OneProcessTest, EveryOptimizerThatNeedsNoNorms) {
  for (const std::string& name : ps::OptimizerNames()) {
    if (name == "lamb") continue;
    SCOPED_TRACE(name);
    const OneJob run{.job = JobOf(name),
                     .make_device = [] { return MakeHostGpu({.pace = HostGpuPace::kLate}); }};
    ExpectSame(Train(run, Parameters::kWithTrainer), Train(run, Parameters::kOnHost));
  }
}

// What the CPU learns, but for the order of sums.
TEST_F(OneProcessTest, LearnsNearlyWhatTheCpuLearns) {
  OneJob run{.job = JobOf("adam")};
  const ClusterResult gpu = Train(run, Parameters::kWithTrainer);
  run.make_device = [] { return MakeCpuDevice(1); };
  const ClusterResult cpu = Train(run, Parameters::kWithTrainer);
  ASSERT_TRUE(gpu.status.ok() && cpu.status.ok()) << gpu.status << cpu.status;
  EXPECT_NEAR(*gpu.state.metrics.train_loss, *cpu.state.metrics.train_loss, 1e-3);
}

TEST_F(OneProcessTest, OfAStepTheHostHearsTheLossesAndOneFlag) {
  const auto run = [](int64_t steps) {
    const auto copies = std::make_shared<testing::HostGpuCopies>();
    const OneJob run{.job = ToyJob(steps), .make_device = [&] {
                       return MakeHostGpu({.pace = HostGpuPace::kLate, .copies = copies});
                     }};
    const ClusterResult result = Train(run, Parameters::kWithTrainer);
    EXPECT_TRUE(result.status.ok()) << result.status;
    return std::pair(copies->to_host_bytes.load(), result.weights.size() * sizeof(float));
  };
  const auto [few, weights_bytes] = run(5);
  const int64_t more = run(205).first - few;
  constexpr int64_t kBatch = 8;
  // At the end the trainer may or may not leave the parameters to the server, once.
  EXPECT_NEAR(more, 200 * int64_t{kBatch * sizeof(float) + sizeof(int32_t)}, 1.1 * weights_bytes);
  EXPECT_GT(200 * weights_bytes, 50 * static_cast<size_t>(more));
}

TEST_F(OneProcessTest, StepsAreTheGraphsThatTheyAreElsewhere) {
  const auto launches = [](Parameters parameters) {
    const auto count = std::make_shared<std::atomic<int64_t>>(0);
    const OneJob run{.job = ToyJob(20),
                     .make_device = [&] { return MakeHostGpu({.launches = count}); }};
    EXPECT_TRUE(Train(run, parameters).status.ok());
    return count->load();
  };
  const int64_t host = launches(Parameters::kOnHost);
  EXPECT_GT(host, 30);
  EXPECT_EQ(launches(Parameters::kWithTrainer), host);
}

TEST_F(OneProcessTest, ARunThatIsResumedMayHaveHadItsParametersElsewhere) {
  const OneJob whole{.job = JobOf("adam", 12)};
  const ClusterResult want = Train(whole, Parameters::kOnHost);
  for (const Parameters first : {Parameters::kOnHost, Parameters::kWithTrainer}) {
    const TemporaryFolder folder;
    // The schedule is that of twelve steps, of which the first run does six.
    OneJob run{.job = JobOf("adam", 12), .folder = folder.path()};
    run.job.mutable_training()->mutable_schedule()->RemoveLast();
    const ClusterResult half = Train(run, first);
    ASSERT_TRUE(half.status.ok()) << half.status;
    EXPECT_EQ(half.checkpoint_step, 6);
    run.job = whole.job;
    const ClusterResult resumed =
        Train(run, first == Parameters::kOnHost ? Parameters::kWithTrainer : Parameters::kOnHost);
    EXPECT_EQ(resumed.state.resumed_from, 6);
    ExpectSame(resumed, want);
  }
}

TEST_F(OneProcessTest, AGradientThatIsNotFiniteEndsTheJobWithOneLine) {
  OneJob run{.job = ToyJob(20)};
  run.job.mutable_training()->mutable_schedule(0)->set_learning_rate(1e38);
  for (const Parameters parameters : {Parameters::kOnHost, Parameters::kWithTrainer}) {
    const ClusterResult result = Train(run, parameters);
    const std::string message(result.status.message());
    EXPECT_THAT(message, HasSubstr("holds a value that is not finite, or makes the sum overflow; "
                                   "lower the learning rate, or look at that replica's data"));
    EXPECT_THAT(message, HasSubstr("from replica 0"));
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST_F(OneProcessTest, AGpuWithoutRoomEndsTheJobWithOneLine) {
  const OneJob run{.model = "conv", .make_device = [] { return MakeHostGpu({.memory = 600'000}); }};
  const ClusterResult result = Train(run, Parameters::kWithTrainer);
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("no memory on /gpu:0"));
}

// What the host's server alone can do, it does.
TEST_F(OneProcessTest, WhatNeedsAServerOnTheHostHasOne) {
  const auto line = [](const std::function<void(Training&)>& change) {
    OneJob run;
    change(*run.job.mutable_training());
    Lines lines;
    ExpectSame(Train(run, Parameters::kWithTrainer, &lines), Train(run, Parameters::kOnHost));
    for (const std::string& text : lines.Get()) {
      if (text.starts_with("device /cpu:0 (the parameters live on the host: ")) return text;
    }
    return std::string("the parameters do not live on the host");
  };
  EXPECT_THAT(line([](Training& t) { t.mutable_optimizer()->set_clip_norm(1); }),
              HasSubstr("clipNorm needs norms"));
  EXPECT_THAT(line([](Training& t) { t.mutable_optimizer()->set_name("lamb"); }),
              HasSubstr("lamb needs norms"));
  const auto ftrl = [](double power) {
    return [=](Training& t) {
      t.mutable_optimizer()->set_name("ftrl");
      (*t.mutable_optimizer()->mutable_params())["learning_rate_power"] = power;
    };
  };
  EXPECT_THAT(line(ftrl(-0.7)), HasSubstr("other powers than ftrl's -0.5"));
  EXPECT_EQ(line(ftrl(-0.5)), "the parameters do not live on the host");
  EXPECT_THAT(line([](Training& t) { t.mutable_codec()->set_push("int8"); }),
              HasSubstr("training.codec names a codec"));
  EXPECT_THAT(line([](Training& t) { t.mutable_codec()->set_pull("fp16"); }),
              HasSubstr("training.codec names a codec"));
  const auto one = [](Training& t) {
    ParameterCodec* const codec = t.mutable_codec()->add_parameters();
    codec->set_pattern("*");
    codec->set_push("bf16");
  };
  EXPECT_THAT(line(one), HasSubstr("training.codec names a codec"));
  for (const Consistency::Mode mode : {Consistency::SSP, Consistency::ASYNC}) {
    EXPECT_THAT(line([=](Training& t) { t.mutable_consistency()->set_mode(mode); }),
                HasSubstr("training.consistency is not plain BSP"));
  }
}

TEST(WhyOnHostTest, SaysWhatTheDevicesAreNotFitFor) {
  master::TrainerDevice cpu = Alone(MakeCpuDevice(1)), gpu = Alone(MakeHostGpu());
  EXPECT_EQ(master::WhyOnHost({}, cpu), "the trainer computes there");
  EXPECT_EQ(master::WhyOnHost({}, gpu), "");
  Training training;
  training.mutable_codec()->set_push("none");
  EXPECT_EQ(master::WhyOnHost(training, gpu), "");
  gpu.devices.push_back(MakeHostGpu());
  EXPECT_EQ(master::WhyOnHost({}, gpu), "several GPUs share each batch");
}

}  // namespace
}  // namespace muster::harness
