// A whole speech job whose trainer has a GPU, as far as it can tell: clips in its memory, or on
// their way there, become features there, and the model learns what it learns on the CPU.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "kernels/philox.h"
#include "tests/harness/cluster.h"
#include "tests/harness/devices.h"
#include "tests/harness/host_gpu.h"
#include "tests/harness/temporary_folder.h"
#include "worker/modules/speech_commands/wav.h"

namespace muster::harness {
namespace {

namespace fs = std::filesystem;

constexpr int kVoices = 40;
constexpr int kRate = 8000;  // Hz

// Words are chords, said by many voices in some noise.
void MakeData(const std::string& dir) {
  const auto write = [](const std::string& path, const std::vector<int16_t>& samples) {
    ASSERT_EQ(worker::WriteWav(path, kRate, samples), absl::OkStatus());
  };
  const auto random = [](uint64_t a, uint64_t b) {
    return 2 * UniformFloat(Philox(DeriveKey(3, a), b)[0]) - 1;
  };
  for (const double hz : {300.0, 500.0, 900.0}) {
    const std::string word = hz == 300 ? "yes" : hz == 500 ? "no" : "bird";
    fs::create_directories(dir + "/" + word);
    for (uint32_t voice = 0; voice < kVoices; ++voice) {
      std::vector<int16_t> samples(kRate * 9 / 10);
      for (size_t n = 0; n < samples.size(); ++n) {
        const double t = static_cast<double>(n) / kRate, pitch = hz * (1 + 0.004 * voice);
        const double sound = std::sin(6.2832 * pitch * t) + 0.5 * std::sin(9.42 * pitch * t);
        samples[n] = static_cast<int16_t>(8000 * sound + 1000 * random(voice, n));
      }
      write(fmt::format("{}/{}/{:08x}_nohash_0.wav", dir, word, voice * 2654435761U), samples);
    }
  }
  fs::create_directories(dir + "/_background_noise_");
  std::vector<int16_t> noise(kRate * 20);
  for (size_t n = 0; n < noise.size(); ++n) noise[n] = static_cast<int16_t>(8000 * random(99, n));
  write(dir + "/_background_noise_/hiss.wav", noise);
}

class GpuSpeechTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (const auto made = testing::MakeTestDevice(GetParam()); !made.ok()) {
      GTEST_SKIP() << made.status().message();
    }
    MakeData(data_.path());
  }

  // Two replicas of a model for some steps, with evaluations between them.
  ClusterResult Train(const std::string& device, int gpu_clips_mib, int trainers = 2) const {
    return Train(gpu_clips_mib, trainers, [device] { return *testing::MakeTestDevice(device); });
  }
  ClusterResult Train(int gpu_clips_mib, int trainers,
                      const std::function<std::unique_ptr<Device>()>& make_device) const {
    TemporaryFolder folder;
    ClusterOptions options;
    options.job = ToyJob(12);
    options.job.mutable_training()->mutable_optimizer()->set_name("momentum");
    options.job.mutable_training()->mutable_schedule(0)->set_learning_rate(0.003);
    options.job.mutable_training()->mutable_evaluation()->set_interval(4);
    options.replicas = 2;
    options.trainers = trainers;
    options.job_dir = folder.path();
    options.make_module = [&] { return *MakeModule(gpu_clips_mib); };
    options.make_device = [make_device] { return Alone(make_device()); };
    return Cluster(options).Run();
  }

  absl::StatusOr<std::unique_ptr<worker::Module>> MakeModule(int gpu_clips_mib) const {
    ASSIGN_OR_RETURN(const auto type, worker::FindModule("speech_commands"));
    const std::vector<std::string> args = {"--data_dir=" + data_.path(),
                                           "--wanted_words=yes,no",
                                           fmt::format("--sample_rate={}", kRate),
                                           "--window_size_ms=40",
                                           "--window_stride_ms=20",
                                           "--dct_coefficient_count=12",
                                           "--background_volume=0.3",
                                           "--model_architecture=tiny_conv",
                                           fmt::format("--gpu_clips_mib={}", gpu_clips_mib)};
    ASSIGN_OR_RETURN(const auto flags, worker::ParseFlags(*type, args, nullptr));
    return type->make(flags);
  }

  const TemporaryFolder data_;
};

INSTANTIATE_TEST_SUITE_P(Devices, GpuSpeechTest,
                         ::testing::Values("host_gpu", "late_host_gpu", "gpu"),
                         [](const auto& info) { return info.param; });

TEST_P(GpuSpeechTest, LearnsWhatTheCpuLearns) {
  const ClusterResult cpu = Train("cpu_1", 4096), gpu = Train(GetParam(), 4096);
  ASSERT_TRUE(cpu.status.ok() && gpu.status.ok()) << cpu.status << gpu.status;
  ASSERT_EQ(gpu.weights.size(), cpu.weights.size());
  double most = 0;
  for (const float w : cpu.weights) most = std::max(most, std::abs(double{w}));
  for (size_t i = 0; i < cpu.weights.size(); ++i) {
    // Features and sums are rounded in another order; another draw of shift or noise is far beyond.
    ASSERT_NEAR(gpu.weights[i], cpu.weights[i], 1e-3 * most) << i;
  }
  EXPECT_NEAR(*gpu.state.metrics.train_loss, *cpu.state.metrics.train_loss, 1e-3);
  EXPECT_EQ(gpu.state.metrics.validation_accuracy, cpu.state.metrics.validation_accuracy);
  EXPECT_EQ(gpu.state.metrics.test_accuracy, cpu.state.metrics.test_accuracy);
}

TEST_P(GpuSpeechTest, ClipsThatTravelGiveTheSameBits) {
  const ClusterResult kept = Train(GetParam(), 4096), travelling = Train(GetParam(), 0);
  ASSERT_TRUE(kept.status.ok() && travelling.status.ok()) << kept.status << travelling.status;
  EXPECT_EQ(kept.weights, travelling.weights);
}

// Nothing that a job does between its steps, evaluations included, makes graphs useless.
class GpuSpeechGraphTest : public GpuSpeechTest {};  // launches are counted where they are played

INSTANTIATE_TEST_SUITE_P(Devices, GpuSpeechGraphTest,
                         ::testing::Values("host_gpu", "late_host_gpu"),
                         [](const auto& info) { return info.param; });

TEST_P(GpuSpeechGraphTest, StepsAreGraphsOnceTheyAreWarm) {
  const auto captures = std::make_shared<std::atomic<int64_t>>(0);
  const auto launches = std::make_shared<std::atomic<int64_t>>(0);
  const auto pace =
      GetParam() == "late_host_gpu" ? testing::HostGpuPace::kLate : testing::HostGpuPace::kAtOnce;
  const ClusterResult counted = Train(4096, /*trainers=*/1, [&] {
    return testing::MakeHostGpu({.pace = pace, .captures = captures, .launches = launches});
  });
  ASSERT_TRUE(counted.status.ok()) << counted.status;
  // Twelve steps of two leases, but for two each, and one more where scratch memory grew; a graph
  // of each pass, since the model is small.
  EXPECT_GE(*launches, (12 - 3) * 2 * 2);
  // And of full batches of evaluations; the last ones, which are smaller, are too few here.
  EXPECT_EQ(*captures, 2 * 2 + 1) << "each once";
  EXPECT_EQ(counted.weights, Train(GetParam(), 4096, 1).weights);
}

TEST_P(GpuSpeechTest, OneProcessWithBothLeasesGivesTheSameBits) {
  const ClusterResult two = Train(GetParam(), 4096), one = Train(GetParam(), 4096, 1);
  ASSERT_TRUE(two.status.ok() && one.status.ok()) << two.status << one.status;
  EXPECT_EQ(one.weights, two.weights);
}

}  // namespace
}  // namespace muster::harness
