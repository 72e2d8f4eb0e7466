// The front end as ONNX nodes, run by somebody else's runtime, against the front end itself.
#include "worker/modules/speech_commands/front_end_onnx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <numbers>

#include "kernels/philox.h"
#include "telemetry/file.h"
#include "tests/harness/onnx_runtime.h"

namespace muster::worker {
namespace {

constexpr int kSamples = 16000;
using Clip = std::vector<float>;  // [kSamples]

// As a 16-bit file would have it.
float Quantized(double x) {
  return static_cast<float>(std::clamp(std::round(x * 32768), -32768.0, 32767.0) / 32768);
}

template <typename F>
Clip Make(F sample) {
  Clip clip(kSamples);
  for (int n = 0; n < kSamples; ++n) clip[n] = Quantized(sample(n));
  return clip;
}

double Sine(double hz, int n) { return std::sin(2 * std::numbers::pi * hz * n / kSamples); }

double Noise(int n) {
  const PhiloxBlock random = Philox(DeriveKey(7, HashName("noise")), uint64_t(n));
  return 2.0 * UniformFloat(random[0]) - 1;
}

struct Named {
  std::string name;
  Clip clip;
};

std::vector<Named> Clips() {
  return {
      {"silence", Clip(kSamples, 0.0F)},
      {"noise", Make([](int n) { return 0.5 * Noise(n); })},
      {"noise of the last bit", Make([](int n) { return Noise(n) / 32768; })},
      {"one sample", Make([](int n) { return n == 8000 ? 1.0 / 32768 : 0.0; })},
      {"voice and then silence", Make([](int n) {
         const double voice = Sine(140, n) + 0.5 * Sine(280, n) + 0.4 * Sine(700, n) +
                              0.2 * Sine(2240, n) + 0.02 * Noise(n);
         return n < 9000 ? 0.3 * voice * std::sin(std::numbers::pi * n / 9000) : 0.0;
       })},
      {"full scale at 440 Hz", Make([](int n) { return Sine(440, n); })},
      {"full scale at 3000 Hz", Make([](int n) { return Sine(3000, n); })},
      {"full scale at 7000 Hz, above all channels", Make([](int n) { return Sine(7000, n); })},
      {"quiet 1000 Hz", Make([](int n) { return 0.001 * Sine(1000, n); })},
      {"a constant", Make([](int) { return 0.25; })},
  };
}

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
  const std::string directory = testing::TempDir() + "/front_end_onnx";
  std::filesystem::create_directories(directory);
  const std::string model = directory + "/front_end.onnx";
  ASSERT_TRUE(WriteFileAtomically(model, onnx.Serialize()).ok());

  std::vector<Clip> clips;
  for (const Named& named : Clips()) clips.push_back(named.clip);
  const auto rows = harness::RunOnnxRuntime(model, clips, directory);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_EQ(rows->size(), clips.size());

  const int coefficients = front_end->settings().coefficients;
  for (size_t i = 0; i < clips.size(); ++i) {
    SCOPED_TRACE(Clips()[i].name);
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
