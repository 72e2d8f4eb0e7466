// Every speech model, exported and run by onnxruntime-web on WAV files that its side reads itself,
// against our own prediction of the same files.
#include "tests/harness/onnx_runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "kernels/device.h"
#include "kernels/philox.h"
#include "telemetry/file.h"
#include "tests/harness/clips.h"
#include "tests/harness/temporary_folder.h"
#include "worker/export.h"
#include "worker/modules/speech_commands/wav.h"

namespace muster::worker {
namespace {

using Values = std::vector<float>;

// Random weights that keep the size of what flows through: uniform with variance 2 / fan-in;
// statistics beside their first values.
Values RandomWeights(const ps::ParamTable& table) {
  Values arena(table.arena_size());
  for (size_t p = 0; p < table.specs().size(); ++p) {
    const ps::ParamSpec& spec = table.specs()[p];
    const int64_t fan_in = spec.size() / spec.shape.back();
    const float width = std::sqrt(6.0F / static_cast<float>(fan_in));
    for (int64_t i = 0; i < spec.size(); ++i) {
      const PhiloxBlock random = Philox(DeriveKey(13, HashName(spec.name)), uint64_t(i));
      const float value = 2 * UniformFloat(random[0]) - 1;
      const bool statistic = spec.kind == ps::ParamSpec::Kind::kStatistic;
      arena[table.offset(p) + i] = statistic ? spec.init.value + value / 2 : width * value;
    }
  }
  return arena;
}

Values Softmax(std::span<const float> logits) {
  const float top = *std::max_element(logits.begin(), logits.end());
  Values p;
  for (const float logit : logits) p.push_back(std::exp(logit - top));
  const float sum = std::accumulate(p.begin(), p.end(), 0.0F);
  for (float& x : p) x /= sum;
  return p;
}

double Largest(const Values& values) { return *std::max_element(values.begin(), values.end()); }

double Spread(const Values& logits) {
  const auto n = static_cast<double>(logits.size());
  const double mean = std::accumulate(logits.begin(), logits.end(), 0.0) / n;
  double sum = 0;
  for (const float x : logits) sum += (x - mean) * (x - mean);
  return std::sqrt(sum / n);
}

class SpeechModelTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto type = FindModule("speech_commands");
    ASSERT_TRUE(type.ok()) << type.status();
    const std::vector<std::string> args = {"--model_architecture=" + GetParam()};
    const auto flags = ParseFlags(**type, args, nullptr);
    ASSERT_TRUE(flags.ok()) << flags.status();
    auto module = (*type)->make(*flags);
    ASSERT_TRUE(module.ok()) << module.status();
    module_ = std::move(*module);
    model_ = module_->MakeModel(*device_);
    table_ = std::make_unique<ps::ParamTable>(*ps::ParamTable::Make(model_->params()));
    EXPECT_TRUE(model_->Prepare(*table_, 1).ok());
    weights_ = RandomWeights(*table_);
    for (const harness::Clip& clip : clips_) {
      files_.push_back(folder_ + "/" + std::to_string(files_.size()) + ".wav");
      ASSERT_TRUE(WriteWav(files_.back(), 16000, clip.samples).ok());
    }
    SpreadLogits();
  }

  Values Logits(const std::string& file) {
    Values input(model_->input_size()), logits(model_->num_classes());
    const absl::Status status = module_->ReadInput(file, input);
    EXPECT_TRUE(status.ok()) << status;
    const int32_t label = 0;
    model_->Predict(weights_, {.inputs = input, .labels = {&label, 1}, .size = 1}, logits);
    return logits;
  }

  // Scales the last layer so that the logits of a voice have a standard deviation of 1.
  void SpreadLogits() {
    const auto scale = static_cast<float>(1 / Spread(Logits(files_[kVoice])));
    const LayerDescription last = model_->layers().back();
    for (size_t p = 0; p < table_->specs().size(); ++p) {
      const ps::ParamSpec& spec = table_->specs()[p];
      if (std::find(last.params.begin(), last.params.end(), spec.name) == last.params.end())
        continue;
      for (int64_t i = 0; i < spec.size(); ++i) weights_[table_->offset(p) + i] *= scale;
    }
  }

  static constexpr int kVoice = 5;  // of the clips: "a vowel in a room"
  const harness::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path();
  const std::unique_ptr<Device> device_ = MakeCpuDevice(1);
  std::unique_ptr<Module> module_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ps::ParamTable> table_;
  Values weights_;
  const std::vector<harness::Clip> clips_ = harness::Clips();
  std::vector<std::string> files_;  // the clips as WAV
};

TEST_P(SpeechModelTest, AForeignRuntimeGivesOurProbabilities) {
  if (const std::string why = harness::OnnxRuntimeMissing(); !why.empty()) GTEST_SKIP() << why;
  const auto path = ExportModel(*module_, *table_, weights_, folder_ + "/export");
  ASSERT_TRUE(path.ok()) << path.status();
  const auto rows = harness::RunOnnxRuntimeOnFiles(*path, files_);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), files_.size());
  for (size_t i = 0; i < files_.size(); ++i) {
    SCOPED_TRACE(clips_[i].name);
    const Values logits = Logits(files_[i]);
    const Values own = Softmax(logits);
    ASSERT_EQ((*rows)[i].size(), own.size());
    // Where a clip is one tone, channels just above the floor hold little but the rounding of
    // either side (front_end_onnx_test bounds it).
    const double tolerance = 1e-4, log_tolerance = clips_[i].tone ? 4e-4 : 1e-4;
    const double spread = std::max(1.0, Spread(logits));
    for (size_t c = 0; c < own.size(); ++c) {
      EXPECT_NEAR((*rows)[i][c], own[c], tolerance);
      // The same for probabilities too small, or too near to 1, to show a difference.
      if (own[c] > 1e-30F) {
        EXPECT_NEAR(std::log((*rows)[i][c]), std::log(own[c]), log_tolerance * spread);
      }
    }
  }
  // A comparison of certainties would say little.
  const double most_certain = Largest(Softmax(Logits(files_[kVoice])));
  EXPECT_GT(most_certain, 0.2);
  EXPECT_LT(most_certain, 0.98);
}

TEST_P(SpeechModelTest, TheCheckerOfOnnxAcceptsTheModel) {
  if (const std::string why = harness::OnnxCheckerMissing(); !why.empty()) GTEST_SKIP() << why;
  const auto path = ExportModel(*module_, *table_, weights_, folder_ + "/export");
  ASSERT_TRUE(path.ok()) << path.status();
  const absl::Status checked = harness::CheckOnnx(*path);
  EXPECT_TRUE(checked.ok()) << checked;
}

TEST_P(SpeechModelTest, TheFileIsTheWeightsAndLittleMore) {
  const auto path = ExportModel(*module_, *table_, weights_, folder_ + "/export");
  ASSERT_TRUE(path.ok()) << path.status();
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(*path));
  EXPECT_LT(bytes, table_->total_size() * int64_t{sizeof(float)} + (int64_t{1} << 20));
}

TEST_P(SpeechModelTest, WhoeverRunsItLearnsWhatToFeed) {
  const std::string folder = folder_ + "/export";
  ASSERT_TRUE(ExportModel(*module_, *table_, weights_, folder).ok());
  const std::string json = *ReadFile(folder + "/module.json");
  EXPECT_THAT(json, testing::HasSubstr(R"("name": "pcm")"));
  EXPECT_THAT(json, testing::HasSubstr(R"("sampleRate": 16000)"));
  EXPECT_THAT(json, testing::HasSubstr(R"("clipSamples": 16000)"));
  EXPECT_THAT(*ReadFile(folder + "/labels.txt"),
              testing::StartsWith("_silence_\n_unknown_\nyes\n"));
}

INSTANTIATE_TEST_SUITE_P(Models, SpeechModelTest,
                         testing::Values("single_fc", "conv", "low_latency_conv",
                                         "low_latency_svdf", "tiny_conv", "conv_norm"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace muster::worker
