// The front end as ONNX nodes, run by somebody else's runtime, against the front end itself.
#include "worker/modules/speech_commands/front_end_onnx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "telemetry/file.h"
#include "tests/harness/clips.h"
#include "tests/harness/onnx_runtime.h"
#include "tests/harness/temporary_folder.h"

namespace muster::worker {
namespace {

constexpr int kSamples = 16000;

// How far two float32 evaluations of one frame's coefficients may be apart, u being the unit
// roundoff. A magnitude is a sum of `window` products: rounding of random sign leaves u √window
// ‖frame‖. A mel channel passes that on relative to its own energy, which is small where a loud
// tone lies in another channel. The rows of the cosine transform have norm 1 (the first one √2) and
// sum `mel_channels` logarithms.
double Tolerance(const MfccFrontEnd& front_end, std::span<const float> frame) {
  const double unit = std::numeric_limits<float>::epsilon() / 2;
  const FrontEndSettings& s = front_end.settings();
  const std::span<const float> hann = front_end.window();
  double norm = 0;
  for (int n = 0; n < s.window; ++n) norm += std::pow(double{frame[n]} * hann[n], 2);
  norm = std::sqrt(norm);
  std::vector<double> energy(s.mel_channels, 0.0), weight(s.mel_channels, 0.0);
  for (int k = 0; k < front_end.bins(); ++k) {
    double re = 0, im = 0;
    for (int n = 0; n < s.window; ++n) {
      const double angle = 2 * std::numbers::pi * ((int64_t{k} * n) % front_end.fft_length()) /
                           front_end.fft_length();
      re += double{frame[n]} * hann[n] * std::cos(angle);
      im += double{frame[n]} * hann[n] * std::sin(angle);
    }
    for (int c = 0; c < s.mel_channels; ++c) {
      const double w = front_end.mel()[k * s.mel_channels + c];
      energy[c] += w * std::hypot(re, im);
      weight[c] += w * w;
    }
  }
  double errors = 0, logs = 0;
  for (int c = 0; c < s.mel_channels; ++c) {
    const double e = std::max(energy[c], double{MfccFrontEnd::kFloor});
    const double error = unit * std::sqrt(s.window) * norm * std::sqrt(weight[c]);
    errors += std::pow(std::log1p(error / e), 2);
    logs += std::pow(std::log(e), 2);
  }
  return std::sqrt(2 * errors) + unit * std::sqrt(2 * s.mel_channels * logs);
}

TEST(FrontEndOnnx, AgreesWithTheFrontEndToTheRoundingOfFloat32) {
  if (const std::string why = harness::OnnxRuntimeMissing(); !why.empty()) GTEST_SKIP() << why;
  const auto front_end = MfccFrontEnd::Make({});
  ASSERT_TRUE(front_end.ok()) << front_end.status();
  OnnxBuilder onnx("front_end");
  const std::string pcm = onnx.AddInput("pcm", {OnnxBuilder::kBatch, kSamples});
  onnx.AddOutput(AddMfccNodes(*front_end, pcm, onnx),
                 {OnnxBuilder::kBatch, front_end->output_size()});
  const harness::TemporaryFolder directory;
  const std::string model = directory.path() + "/front_end.onnx";
  ASSERT_TRUE(WriteFileAtomically(model, onnx.Serialize()).ok());

  std::vector<std::string> names;
  std::vector<std::vector<float>> clips;
  for (const harness::Clip& clip : harness::Clips()) {
    names.push_back(clip.name);
    clips.push_back(clip.pcm());
  }
  const auto rows = harness::RunOnnxRuntime(model, clips, directory.path());
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), clips.size());

  const int coefficients = front_end->settings().coefficients;
  for (size_t i = 0; i < clips.size(); ++i) {
    SCOPED_TRACE(names[i]);
    MfccFrontEnd::Scratch scratch;
    std::vector<float> own(front_end->output_size());
    front_end->Compute(clips[i], scratch, own);
    ASSERT_EQ((*rows)[i].size(), own.size());
    for (int f = 0; f < front_end->frames(); f += 7) {
      const std::span<const float> frame(&clips[i][f * front_end->settings().stride],
                                         front_end->settings().window);
      const double tolerance = Tolerance(*front_end, frame);
      for (int c = 0; c < coefficients; ++c) {
        const int at = f * coefficients + c;
        ASSERT_NEAR((*rows)[i][at], own[at], tolerance) << "frame " << f << ", coefficient " << c;
      }
    }
  }
}

TEST(FrontEndOnnx, IsSmallBecauseUnheardBinsAreLeftOut) {
  const auto front_end = MfccFrontEnd::Make({});
  ASSERT_TRUE(front_end.ok()) << front_end.status();
  OnnxBuilder onnx("front_end");
  AddMfccNodes(*front_end, onnx.AddInput("pcm", {OnnxBuilder::kBatch, kSamples}), onnx);
  // 127 of 257 bins, real and imaginary, of 480 samples; and a few KB for the rest.
  EXPECT_LT(onnx.Serialize().size(), 127 * 2 * 480 * sizeof(float) + 40000);
}

}  // namespace
}  // namespace muster::worker
