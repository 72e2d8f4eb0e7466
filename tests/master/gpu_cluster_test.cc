// A whole job whose trainers compute on a GPU, as far as they can tell: the kernels of kernels/cuda
// run on the host, in memory that is reached by copies alone. It learns what the CPU learns, with
// the same dropout; and so do several GPUs in one worker.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>

#include "telemetry/log.h"
#include "telemetry/mutex.h"
#include "tests/harness/cluster.h"
#include "tests/harness/devices.h"
#include "tests/harness/host_gpu.h"
#include "tests/harness/rows_module.h"
#include "tests/harness/temporary_folder.h"

namespace muster::harness {
namespace {

using ::testing::HasSubstr;

using MakeDevices = std::function<absl::StatusOr<master::TrainerDevice>()>;

// Two replicas of the rows' model for six steps, by `trainers` processes' worth of trainers.
ClusterResult Train(const RowsOptions& rows, MakeDevices make_devices, int trainers,
                    Log* role_log = nullptr) {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = ToyJob(6);
  options.job.mutable_training()->mutable_optimizer()->set_name("momentum");
  options.replicas = 2;
  options.trainers = trainers;
  options.servers = 2;
  options.job_dir = folder.path();
  options.make_module = [rows] { return MakeRowsModule(rows); };
  options.make_device = std::move(make_devices);
  options.role_log = role_log;
  return Cluster(options).Run();
}

ClusterResult Train(const std::string& model, const std::string& name, int trainers,
                    bool graphs = true) {
  return Train(
      RowsOptions{model}, [=] { return Alone(*testing::MakeTestDevice(name, graphs)); }, trainers);
}

// Each trainer with `count` GPUs played by the host.
MakeDevices HostGpus(int count, testing::HostGpuPace pace,
                     std::optional<testing::FailingGpu> failing = {}, bool graphs = true) {
  return [=]() -> absl::StatusOr<master::TrainerDevice> {
    testing::HostGpus gpus = testing::MakeHostGpus(count, pace, failing, graphs);
    return master::TrainerDevice{std::move(gpus.devices), std::move(gpus.communicator), "gpus", ""};
  };
}

// Sums in another order; a wrong mask of dropout, or a bucket that is missing, is far beyond.
void ExpectNear(const ClusterResult& got, const ClusterResult& want) {
  ASSERT_TRUE(want.status.ok()) << want.status;
  ASSERT_TRUE(got.status.ok()) << got.status;
  ASSERT_EQ(got.weights.size(), want.weights.size());
  double most = 0;
  for (const float w : want.weights) most = std::max(most, std::abs(double{w}));
  for (size_t i = 0; i < want.weights.size(); ++i) {
    ASSERT_NEAR(got.weights[i], want.weights[i], 1e-4 * most) << i;
  }
  EXPECT_NEAR(*got.state.metrics.train_loss, *want.state.metrics.train_loss, 1e-3);
}

class GpuClusterTest : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

INSTANTIATE_TEST_SUITE_P(Models, GpuClusterTest,
                         ::testing::Combine(::testing::Values("host_gpu", "late_host_gpu", "gpu"),
                                            ::testing::ValuesIn(worker::ImageModelNames())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" + std::get<1>(info.param);
                         });

TEST_P(GpuClusterTest, LearnsWhatTheCpuLearns) {
  const auto& [device, model] = GetParam();
  if (const auto made = testing::MakeTestDevice(device); !made.ok()) {
    GTEST_SKIP() << made.status().message();
  }
  const ClusterResult cpu = Train(model, "cpu_1", /*trainers=*/2);
  const ClusterResult gpu = Train(model, device, /*trainers=*/2);
  ExpectNear(gpu, cpu);
  EXPECT_EQ(gpu.state.replicas[1].device, "/gpu:0");
}

TEST_P(GpuClusterTest, OneProcessWithBothLeasesGivesTheSameBits) {
  const auto& [device, model] = GetParam();
  if (const auto made = testing::MakeTestDevice(device); !made.ok()) {
    GTEST_SKIP() << made.status().message();
  }
  const ClusterResult two = Train(model, device, 2), one = Train(model, device, 1);
  ASSERT_TRUE(two.status.ok() && one.status.ok()) << two.status << one.status;
  EXPECT_EQ(one.weights, two.weights);
}

TEST_P(GpuClusterTest, StepsThatAreGraphsGiveTheSameBits) {
  const auto& [device, model] = GetParam();
  if (const auto made = testing::MakeTestDevice(device); !made.ok()) {
    GTEST_SKIP() << made.status().message();
  }
  const ClusterResult graphs = Train(model, device, 1), plain = Train(model, device, 1, false);
  ASSERT_TRUE(graphs.status.ok() && plain.status.ok()) << graphs.status << plain.status;
  EXPECT_EQ(graphs.weights, plain.weights);
}

// Warnings of all roles.
class Warnings final : public Log {
 public:
  void Write(Level level, std::string_view text) override {
    MutexLock lock(mu_);
    if (level == Level::kWarning) lines_.emplace_back(text);
  }
  std::vector<std::string> lines() const {
    MutexLock lock(mu_);
    return lines_;
  }

 private:
  mutable Mutex mu_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mu_);
};

TEST(GpuClusterGraphTest, ACaptureThatFailsIsOneLineOfTheLogAndNoMore) {
  const auto train = [](int64_t failing, Log* log) {
    return Train(
        RowsOptions{"tiny_conv"},
        [=] { return Alone(testing::MakeHostGpu({.failing_capture = failing})); },
        /*trainers=*/1, log);
  };
  Warnings none, warnings;
  const ClusterResult graphs = train(-1, &none), plain = train(1, &warnings);
  ASSERT_TRUE(graphs.status.ok() && plain.status.ok()) << graphs.status << plain.status;
  EXPECT_EQ(graphs.weights, plain.weights);
  EXPECT_THAT(none.lines(), ::testing::IsEmpty());
  EXPECT_THAT(warnings.lines(),
              ::testing::ElementsAre("steps go without CUDA graphs: the test lets a capture fail"));
}

// Captures of a job of `steps` steps with an evaluation every second one.
int64_t CapturesOf(int64_t steps, const std::string& model) {
  TemporaryFolder folder;
  const auto captures = std::make_shared<std::atomic<int64_t>>(0);
  ClusterOptions options;
  options.job = ToyJob(steps);
  options.job.mutable_training()->mutable_evaluation()->set_interval(2);
  options.job_dir = folder.path();
  options.make_module = [model] { return MakeRowsModule({model}); };
  options.make_device = [captures] { return Alone(testing::MakeHostGpu({.captures = captures})); };
  const ClusterResult run = Cluster(options).Run();
  EXPECT_TRUE(run.status.ok()) << run.status;
  return *captures;
}

TEST(GpuClusterGraphTest, EvaluationsMakeNoStepBeCapturedAgain) {
  const int64_t captures = CapturesOf(12, "tiny_conv");
  EXPECT_GE(captures, 3) << "two of steps, and one of evaluations";
  EXPECT_EQ(CapturesOf(24, "tiny_conv"), captures);
}

// What a job that is resumed with training.precision TF32, BF16 and BF16 is told the last two
// times.
std::vector<std::string> WarningsOfPrecisions(
    const std::function<std::unique_ptr<Device>(GpuPrecision)>& make_device) {
  TemporaryFolder folder;
  std::vector<std::string> warnings;
  ClusterOptions options;
  options.job = ToyJob(10);
  options.job_dir = folder.path();
  options.make_module = [] { return MakeRowsModule({"single_fc"}); };
  options.on_status = [&](const master::StatusLine& line) {
    const auto* message = std::get_if<master::MessageLine>(&line);
    if (message != nullptr && message->level == master::MessageLine::Level::kWarning) {
      warnings.push_back(message->text);
    }
  };
  Training* const training = options.job.mutable_training();
  for (const auto& [steps, precision] :
       {std::pair{10, Training::TF32}, {20, Training::BF16}, {30, Training::BF16}}) {
    training->mutable_schedule(0)->set_steps(steps);
    training->set_precision(precision);
    const GpuPrecision of_gpus = master::GpuOptionsOf(precision, true).precision;
    options.make_device = [&, of_gpus] {
      master::TrainerDevice made = Alone(make_device(of_gpus));
      made.precision = of_gpus;
      return made;
    };
    const ClusterResult run = Cluster(options).Run();
    EXPECT_TRUE(run.status.ok()) << run.status;
    EXPECT_EQ(run.checkpoint_step, steps);
  }
  return warnings;
}

TEST(GpuClusterResumeTest, AnotherPrecisionIsAnotherDeviceOnAGpuAlone) {
  EXPECT_THAT(WarningsOfPrecisions([](GpuPrecision) { return MakeCpuDevice(1); }),
              ::testing::IsEmpty());
  EXPECT_THAT(
      WarningsOfPrecisions([](GpuPrecision precision) {
        const bool bf16 = precision == GpuPrecision::kBf16;
        return testing::MakeHostGpu({.precision = bf16 ? precision : GpuPrecision::kFloat32});
      }),
      ::testing::ElementsAre("what computes was host, TF32, is host, BF16: the result will "
                             "not be bit-identical to an uninterrupted run"));
}

// Products round their factors, and nothing else is rounded.
class Bf16ClusterTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Devices, Bf16ClusterTest, ::testing::Values("bf16_host_gpu", "bf16_gpu"),
                         [](const auto& info) { return info.param; });

TEST_P(Bf16ClusterTest, LearnsNearlyWhatFloat32LearnsIntoFloat32Weights) {
  if (const auto made = testing::MakeTestDevice(GetParam()); !made.ok()) {
    GTEST_SKIP() << made.status().message();
  }
  const ClusterResult bf16 = Train("conv", GetParam(), 2), float32 = Train("conv", "cpu_1", 2);
  ASSERT_TRUE(bf16.status.ok() && float32.status.ok()) << bf16.status << float32.status;
  EXPECT_NEAR(*bf16.state.metrics.train_loss, *float32.state.metrics.train_loss, 0.02);
  EXPECT_NE(bf16.weights, float32.weights);
  const auto fine = [](float w) { return (std::bit_cast<uint32_t>(w) & 0xffff) != 0; };
  EXPECT_GT(std::ranges::count_if(bf16.weights, fine), std::ssize(bf16.weights) / 2);
}

// Gradients are encoded on the GPU, or by the client where the GPU has no code for that.
class GpuCodecClusterTest : public ::testing::TestWithParam<std::string> {
 protected:
  // In the folder's job, up to `steps`.
  ClusterResult TrainTo(int64_t steps, bool on_gpu, const TemporaryFolder& folder,
                        const std::string& codec = GetParam()) {
    ClusterOptions options;
    options.job = ToyJob(steps);
    options.job.mutable_training()->mutable_codec()->set_push(codec);
    options.replicas = 2;
    options.trainers = 2;
    options.servers = 2;
    options.job_dir = folder.path();
    options.make_module = [] { return MakeRowsModule({"conv"}); };
    copies_->to_host_bytes = 0;
    options.make_device = [on_gpu, copies = copies_] {
      return Alone(testing::MakeHostGpu(
          {.pace = testing::HostGpuPace::kLate, .codecs = on_gpu, .copies = copies}));
    };
    return Cluster(options).Run();
  }

  const std::shared_ptr<testing::HostGpuCopies> copies_ =
      std::make_shared<testing::HostGpuCopies>();
};

INSTANTIATE_TEST_SUITE_P(Codecs, GpuCodecClusterTest,
                         ::testing::Values("fp16", "bf16", "int8", "1bit", "topk"),
                         [](const auto& info) { return info.param; });

TEST_P(GpuCodecClusterTest, TheGpuEncodesToTheBitsOfTheHostsAndCopiesLess) {
  const ClusterResult host = TrainTo(6, /*on_gpu=*/false, TemporaryFolder());
  const int64_t plain = copies_->to_host_bytes;
  const ClusterResult gpu = TrainTo(6, /*on_gpu=*/true, TemporaryFolder());
  const int64_t encoded = copies_->to_host_bytes;
  const ClusterResult none = TrainTo(6, /*on_gpu=*/true, TemporaryFolder(), "none");
  ASSERT_TRUE(host.status.ok() && gpu.status.ok()) << host.status << gpu.status;
  EXPECT_EQ(gpu.weights, host.weights);
  EXPECT_NE(gpu.weights, none.weights);
  EXPECT_EQ(copies_->to_host_bytes, plain);
  // fp16 halves the gradients; what it keeps back, int8 brings once, for the checkpoint.
  EXPECT_LT(encoded, plain * 6 / 10);
}

TEST_P(GpuCodecClusterTest, ARunGoesOnFromWhateverEncodedBefore) {
  const ClusterResult whole = TrainTo(8, /*on_gpu=*/false, TemporaryFolder());
  ASSERT_TRUE(whole.status.ok()) << whole.status;
  for (const bool first : {false, true}) {
    for (const bool second : {false, true}) {
      SCOPED_TRACE(std::to_string(first) + std::to_string(second));
      const TemporaryFolder folder;
      const ClusterResult begun = TrainTo(4, first, folder), ended = TrainTo(8, second, folder);
      ASSERT_TRUE(begun.status.ok() && ended.status.ok()) << begun.status << ended.status;
      EXPECT_EQ(ended.state.resumed_from, 4);
      EXPECT_EQ(ended.weights, whole.weights);
    }
  }
}

// One trainer that scales each gradient down to a norm before it is pushed; 0: it does not.
ClusterResult TrainClipped(MakeDevices make_devices, const std::string& codec, double clip_norm) {
  const TemporaryFolder folder;
  ClusterOptions options;
  options.job = ToyJob(6);
  Training& training = *options.job.mutable_training();
  training.mutable_consistency()->set_mode(Consistency::ASYNC);
  training.mutable_codec()->set_push(codec);
  training.mutable_optimizer()->set_clip_norm(clip_norm);
  options.job_dir = folder.path();
  options.make_module = [] { return MakeRowsModule({"single_fc"}); };
  options.make_device = std::move(make_devices);
  return Cluster(options).Run();
}

class ClippedCodecsTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Devices, ClippedCodecsTest,
                         ::testing::Values("host_gpu", "late_host_gpu", "gpu"),
                         [](const auto& info) { return info.param; });

// So a norm that is never reached has the host encode.
TEST_P(ClippedCodecsTest, WhatIsClippedIsTheGradientAndNotItsEncoding) {
  if (const auto made = testing::MakeTestDevice(GetParam()); !made.ok()) {
    GTEST_SKIP() << made.status().message();
  }
  const auto train = [](const std::string& codec, double clip_norm) {
    return TrainClipped([] { return Alone(*testing::MakeTestDevice(GetParam())); }, codec,
                        clip_norm);
  };
  for (const char* codec : {"fp16", "bf16", "int8", "1bit", "topk"}) {
    SCOPED_TRACE(codec);
    const ClusterResult gpu = train(codec, 0), host = train(codec, 1e30),
                        clipped = train(codec, 0.01);
    ASSERT_TRUE(gpu.status.ok() && host.status.ok()) << gpu.status << host.status;
    ASSERT_TRUE(clipped.status.ok()) << clipped.status;
    EXPECT_EQ(gpu.weights, host.weights);
    EXPECT_NE(gpu.weights, clipped.weights);
  }
}

TEST(GpusCodecsTest, SumsOfSeveralGpusAreEncodedByTheHost) {
  const auto train = [](int count, const std::string& codec) {
    return TrainClipped(HostGpus(count, testing::HostGpuPace::kLate), codec, 0);
  };
  const ClusterResult one = train(1, "int8"), several = train(3, "int8"), plain = train(3, "none");
  ASSERT_TRUE(one.status.ok() && several.status.ok()) << one.status << several.status;
  EXPECT_NE(several.weights, plain.weights);
  // A sum in another order may be rounded to another step of its block.
  EXPECT_NEAR(*several.state.metrics.train_loss, *one.state.metrics.train_loss, 1e-2);
}

class GpusClusterTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Models, GpusClusterTest, ::testing::ValuesIn(worker::ImageModelNames()),
                         [](const auto& info) { return info.param; });

// Whose samples do not hear of each other: no batch norm.
std::vector<std::string> ModelsWithoutStatistics() {
  std::vector<std::string> names;
  const auto device = MakeCpuDevice(1);
  for (const std::string& name : worker::ImageModelNames()) {
    const auto model = *worker::MakeImageModel(name, kRowsImage, *device);
    if (std::ranges::all_of(model->params(), [](const ps::ParamSpec& spec) {
          return spec.kind == ps::ParamSpec::Kind::kWeight;
        })) {
      names.push_back(name);
    }
  }
  return names;
}

class SharingGpusClusterTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Models, SharingGpusClusterTest,
                         ::testing::ValuesIn(ModelsWithoutStatistics()),
                         [](const auto& info) { return info.param; });

// Three do not divide a batch of eight: they have two, three and three samples of it.
TEST_P(SharingGpusClusterTest, SeveralGpusLearnWhatOneDoes) {
  const ClusterResult one = Train(GetParam(), "host_gpu", /*trainers=*/2);
  for (const int count : {1, 2, 3, 4}) {
    SCOPED_TRACE(count);
    const ClusterResult several =
        Train({GetParam()}, HostGpus(count, testing::HostGpuPace::kAtOnce), /*trainers=*/2);
    ExpectNear(several, one);
    EXPECT_EQ(several.state.metrics.validation_accuracy, one.state.metrics.validation_accuracy);
    EXPECT_EQ(several.state.metrics.test_accuracy, one.state.metrics.test_accuracy);
    if (count == 1) {
      EXPECT_EQ(several.weights, one.weights);
    }
  }
}

// Each normalises by its own samples, which makes no difference where all images are the same.
TEST(GpusBatchNormTest, SeveralGpusLearnWhatOneDoesFromImagesThatAreAlike) {
  const RowsOptions rows{.model = "conv_norm", .alike = true};
  const auto one = Train(rows, HostGpus(1, testing::HostGpuPace::kAtOnce), /*trainers=*/2);
  for (const int count : {2, 3, 4}) {
    SCOPED_TRACE(count);
    ExpectNear(Train(rows, HostGpus(count, testing::HostGpuPace::kAtOnce), /*trainers=*/2), one);
  }
}

TEST_P(GpusClusterTest, NeitherTheirPaceNorTheNumberOfProcessesChangesABit) {
  const ClusterResult two =
      Train({GetParam()}, HostGpus(2, testing::HostGpuPace::kAtOnce), /*trainers=*/2);
  const ClusterResult one =
      Train({GetParam()}, HostGpus(2, testing::HostGpuPace::kLate), /*trainers=*/1);
  ASSERT_TRUE(two.status.ok() && one.status.ok()) << two.status << one.status;
  EXPECT_EQ(one.weights, two.weights);
}

TEST_P(GpusClusterTest, StepsThatAreGraphsGiveTheSameBitsOnSeveral) {
  const auto train = [&](bool graphs) {
    return Train({GetParam()}, HostGpus(3, testing::HostGpuPace::kLate, {}, graphs),
                 /*trainers=*/1);
  };
  const ClusterResult graphs = train(true), plain = train(false);
  ASSERT_TRUE(graphs.status.ok() && plain.status.ok()) << graphs.status << plain.status;
  EXPECT_EQ(graphs.weights, plain.weights);
}

TEST(GpusClusterEndTest, AGpuThatFailsEndsTheJobWithOneLine) {
  // Parameters gathered for the first step, gradients of the third, parameters for the evaluation.
  for (const int64_t calls : {0, 5, 12}) {
    const ClusterResult result = Train(
        {"single_fc"}, HostGpus(4, testing::HostGpuPace::kLate, testing::FailingGpu{2, calls}),
        /*trainers=*/2);
    const std::string message(result.status.message());
    EXPECT_THAT(message, HasSubstr("the test lets a GPU fail"));
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST(GpusClusterEndTest, MoreGpusThanSamplesAreRefused) {
  const ClusterResult result =
      Train({"single_fc"}, HostGpus(9, testing::HostGpuPace::kAtOnce), /*trainers=*/2);
  EXPECT_THAT(std::string(result.status.message()),
              HasSubstr("training.batchSize is 8, and 9 GPUs share each batch"));
}

}  // namespace
}  // namespace muster::harness
