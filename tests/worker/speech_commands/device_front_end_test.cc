// The front end on a device against the host's: the same samples for the same index and draw,
// whether the device keeps the clips or gets them with their batches.
#include "worker/modules/speech_commands/device_front_end.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "kernels/op.h"
#include "kernels/philox.h"
#include "tests/harness/clips.h"
#include "tests/harness/devices.h"
#include "tests/harness/host_gpu.h"
#include "tests/harness/temporary_folder.h"
#include "tests/worker/speech_commands/mfcc_tolerance.h"
#include "worker/modules/speech_commands/dataset.h"
#include "worker/modules/speech_commands/wav.h"

namespace muster::worker {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kNoBudget = 0;

class Lines : public Log {
 public:
  void Write(Level, std::string_view text) override { lines.emplace_back(text); }
  std::vector<std::string> lines;
};

// What a front end makes of samples.
struct Made {
  std::vector<float> inputs;
  std::vector<int32_t> labels;
};

class DeviceFrontEndTest : public ::testing::TestWithParam<std::string> {
 protected:
  // All sounds of the harness, said by many voices; a clip that is short, and one that is bad.
  void SetUp() override {
    auto device = testing::MakeTestDevice(GetParam());
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    device_ = *std::move(device);
    for (const char* word : {"yes", "no", "bird"}) {
      fs::create_directories(dir_ + "/" + word);
      uint32_t voice = 0;
      for (int i = 0; i < 4; ++i) {
        for (const harness::Clip& clip : harness::Clips()) {
          Write(Path(word, voice++), clip.samples);
        }
      }
    }
    Write(Path("yes", 3), std::vector<int16_t>(5000, -20000));
    std::ofstream(Path("no", 0)) << "no sound";
    fs::create_directories(dir_ + "/" + kNoiseFolder);
    for (const int samples : {50000, 90001}) {
      std::vector<int16_t> noise(static_cast<size_t>(samples));
      for (size_t i = 0; i < noise.size(); ++i) {
        noise[i] = static_cast<int16_t>(Philox(DeriveKey(5, noise.size()), i)[0]);
      }
      Write(dir_ + "/" + kNoiseFolder + fmt::format("/{}.wav", samples), noise);
    }
  }

  std::string Path(const std::string& word, uint32_t voice) const {
    return fmt::format("{}/{}/{:08x}_nohash_0.wav", dir_, word, voice * 2654435761U);
  }
  static void Write(const std::string& path, const std::vector<int16_t>& samples) {
    ASSERT_EQ(WriteWav(path, 16000, samples), absl::OkStatus());
  }

  std::unique_ptr<SpeechDataset> Make(Split split, int64_t clip_budget,
                                      const FrontEndSettings& settings = {}) {
    auto corpus = Corpus::Scan({.data_dir = dir_, .wanted_words = {"yes", "no"}});
    EXPECT_TRUE(corpus.ok()) << corpus.status();
    auto noise = Noise::Load(dir_ + "/" + kNoiseFolder, 16000, 16000);
    EXPECT_TRUE(noise.ok()) << noise.status();
    auto bad = std::make_shared<BadClips>(dir_, corpus->num_files());
    AugmentSettings augment;
    augment.background_volume = 0.8;
    return std::make_unique<SpeechDataset>(
        dir_, split, kSeed, augment, std::make_shared<const Corpus>(*std::move(corpus)),
        std::make_shared<const Noise>(*std::move(noise)),
        std::make_shared<const MfccFrontEnd>(*MfccFrontEnd::Make(settings)), std::move(bad), log_,
        clip_budget);
  }

  // The samples in batches of `batch`.
  Made MakeOnDevice(const SpeechDataset& data, std::span<const std::pair<int64_t, int64_t>> picks,
                    int64_t batch) {
    auto front_end = data.MakeDeviceFrontEnd(*device_, batch);
    EXPECT_TRUE(front_end.ok()) << front_end.status();
    const std::unique_ptr<Stream> stream = device_->MakeStream();
    const auto bytes = static_cast<size_t>((*front_end)->record_bytes());
    const auto width = data.input_size();
    Made made;
    for (size_t first = 0; first < picks.size(); first += static_cast<size_t>(batch)) {
      const auto some =
          picks.subspan(first, std::min(static_cast<size_t>(batch), picks.size() - first));
      std::vector<std::byte> records(some.size() * bytes);
      for (size_t i = 0; i < some.size(); ++i) {
        EXPECT_EQ((*front_end)
                      ->GetRecord(some[i].first, some[i].second,
                                  std::span(records).subspan(i * bytes, bytes),
                                  &made.labels.emplace_back()),
                  absl::OkStatus());
      }
      const Buffer there(*device_, records.size());
      const auto n = static_cast<int64_t>(some.size());
      const Buffer inputs(*device_, static_cast<size_t>(n * width) * sizeof(float));
      device_->ops().Copy(*stream, there.data<void>(), records.data(), records.size(),
                          CopyDirection::kHostToDevice);
      (*front_end)->Compute(*stream, n, there.data<std::byte>(), inputs.data());
      std::vector<float> back(static_cast<size_t>(n * width));
      EXPECT_TRUE(CopyToHost(*stream, ConstTensor(inputs.data(), {n, width}), back).ok());
      made.inputs.insert(made.inputs.end(), back.begin(), back.end());
    }
    return made;
  }

  // Each sample of a split, twice, at random places of the training sequence.
  std::vector<std::pair<int64_t, int64_t>> RandomPicks(const SpeechDataset& data,
                                                       Split split) const {
    std::vector<std::pair<int64_t, int64_t>> picks;
    for (int64_t i = 0; i < 2 * data.size(); ++i) {
      const auto draw = UniformInt(DeriveKey(kSeed, 1), static_cast<uint64_t>(i), 0, 1 << 30);
      picks.emplace_back(i % data.size(), split == Split::kTraining ? draw : 0);
    }
    return picks;
  }

  void ExpectTheHosts(const SpeechDataset& data, Split split, int64_t batch) {
    SCOPED_TRACE(::testing::Message() << SplitName(split) << ", seed " << kSeed);
    const auto picks = RandomPicks(data, split);
    const Made made = MakeOnDevice(data, picks, batch);
    const FrontEndSettings& s = data.front_end().settings();
    std::vector<float> want(static_cast<size_t>(data.input_size()));
    std::vector<float> pcm(static_cast<size_t>(s.clip_samples));
    for (size_t i = 0; i < picks.size(); ++i) {
      int32_t label = -1;
      ASSERT_EQ(data.Get(picks[i].first, picks[i].second, want, &label), absl::OkStatus());
      ASSERT_EQ(made.labels[i], label);
      ASSERT_EQ(data.GetPcm(picks[i].first, picks[i].second, pcm, &label), absl::OkStatus());
      const float* got = &made.inputs[i * want.size()];
      for (int f = static_cast<int>(i) % 49; f < data.front_end().frames(); f += 49) {
        const double tolerance = MfccTolerance(
            data.front_end(), std::span(pcm).subspan(static_cast<size_t>(f * s.stride),
                                                     static_cast<size_t>(s.window)));
        for (int c = f * s.coefficients; c < (f + 1) * s.coefficients; ++c) {
          ASSERT_NEAR(got[c], want[static_cast<size_t>(c)], tolerance)
              << "index " << picks[i].first << ", frame " << f;
        }
      }
    }
  }

  static constexpr uint64_t kSeed = 20261122;
  const harness::TemporaryFolder temporary_;
  const std::string dir_ = temporary_.path();
  std::unique_ptr<Device> device_;
  Lines log_;
};

INSTANTIATE_TEST_SUITE_P(Devices, DeviceFrontEndTest,
                         ::testing::Values("host_gpu", "late_host_gpu", "gpu"),
                         [](const auto& info) { return info.param; });

TEST_P(DeviceFrontEndTest, FeaturesAreTheHostsToTheRoundingOfFloat32) {
  for (const Split split : {Split::kTraining, Split::kValidation, Split::kTesting}) {
    ExpectTheHosts(*Make(split, SpeechDataset::kClipBudget), split, 32);
  }
}

TEST_P(DeviceFrontEndTest, WithOtherFramesToo) {
  // A window and numbers of channels that fours do not divide.
  const FrontEndSettings settings{
      .window = 401, .stride = 333, .coefficients = 13, .mel_channels = 27, .upper_hz = 7000};
  ExpectTheHosts(*Make(Split::kTraining, SpeechDataset::kClipBudget, settings), Split::kTraining,
                 32);
}

TEST_P(DeviceFrontEndTest, ClipsThatTravelGiveTheSameBits) {
  const auto kept = Make(Split::kTraining, SpeechDataset::kClipBudget);
  const auto travelling = Make(Split::kTraining, kNoBudget);
  const auto picks = RandomPicks(*kept, Split::kTraining);
  const Made a = MakeOnDevice(*kept, picks, 32), b = MakeOnDevice(*travelling, picks, 32);
  EXPECT_EQ(a.labels, b.labels);
  EXPECT_EQ(a.inputs, b.inputs);
  EXPECT_EQ((*kept->MakeDeviceFrontEnd(*device_, 8))->record_bytes(), 32);
  EXPECT_EQ((*travelling->MakeDeviceFrontEnd(*device_, 8))->record_bytes(), 32 + 2 * 16000);
}

TEST_P(DeviceFrontEndTest, BatchesOfAnySize) {
  ExpectTheHosts(*Make(Split::kTraining, SpeechDataset::kClipBudget), Split::kTraining, 150);
  ExpectTheHosts(*Make(Split::kTesting, SpeechDataset::kClipBudget), Split::kTesting, 1);
}

TEST_P(DeviceFrontEndTest, TheLogSaysWhereTheClipsAre) {
  const auto told = [&](Split split, int64_t budget) {
    const auto data = Make(split, budget);
    log_.lines.clear();
    EXPECT_TRUE(data->MakeDeviceFrontEnd(*device_, 8).ok());
    std::erase_if(log_.lines, [&](const std::string& line) {
      return line.find(device_->name()) == std::string::npos;
    });
    return log_.lines;
  };
  EXPECT_THAT(told(Split::kTraining, SpeechDataset::kClipBudget),
              ElementsAre(HasSubstr("MiB, stay in the memory of " + device_->name())));
  EXPECT_THAT(told(Split::kTraining, 1 << 20),
              ElementsAre(HasSubstr("MiB, go batch by batch to " + device_->name() +
                                    " (--gpu_clips_mib is 1)")));
  EXPECT_THAT(told(Split::kTesting, SpeechDataset::kClipBudget), ElementsAre());
}

TEST_P(DeviceFrontEndTest, WhereThereIsNoMemoryForThemClipsTravel) {
  const auto data = Make(Split::kTraining, SpeechDataset::kClipBudget);
  const std::unique_ptr<Device> small = testing::MakeHostGpu({.memory = 1 << 20});
  const auto front_end = data->MakeDeviceFrontEnd(*small, 2);
  ASSERT_TRUE(front_end.ok()) << front_end.status();
  EXPECT_GT((*front_end)->record_bytes(), 32000);
  EXPECT_THAT(log_.lines.back(), HasSubstr("go batch by batch to /gpu:0 (no memory on /gpu:0)"));
}

TEST_P(DeviceFrontEndTest, TooManyBadClipsAreAnError) {
  for (uint32_t voice = 5; voice < 10; ++voice) std::ofstream(Path("yes", voice)) << "no sound";
  const auto data = Make(Split::kTraining, SpeechDataset::kClipBudget);
  EXPECT_THAT(data->MakeDeviceFrontEnd(*device_, 8).status().message(),
              HasSubstr("more than 1 % of the"));
}

}  // namespace
}  // namespace muster::worker
