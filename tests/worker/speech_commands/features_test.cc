// The front end against its definition, evaluated term by term in double precision.
#include "worker/modules/speech_commands/features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <kiss_fftr.h>

#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <random>

namespace muster::worker {
namespace {

using testing::HasSubstr;

double Mel(double hz) { return 1127.0 * std::log1p(hz / 700.0); }

// Weight of frequency bin k in mel channel c: a triangle over the centres of its neighbours, on the
// mel scale.
double Triangle(const FrontEndSettings& s, int fft_length, int k, int c) {
  const double low = Mel(s.lower_hz), high = Mel(s.upper_hz);
  const double spacing = (high - low) / (s.mel_channels + 1);
  const double hz = double(k) * s.sample_rate / fft_length;
  const double hz_per_bin = double(s.sample_rate) / fft_length;
  if (k < int(1.5 + s.lower_hz / hz_per_bin) || k > int(s.upper_hz / hz_per_bin)) return 0;
  const double x = (Mel(hz) - low) / spacing - (c + 1);  // distance from the centre, in spacings
  return std::max(0.0, 1 - std::abs(x));
}

std::vector<double> Reference(const FrontEndSettings& s, const std::vector<float>& pcm) {
  int fft = 1;
  while (fft < s.window) fft *= 2;
  const int frames = 1 + (s.clip_samples - s.window) / s.stride;
  std::vector<double> out;
  for (int f = 0; f < frames; ++f) {
    std::vector<double> magnitude(fft / 2 + 1);
    for (int k = 0; k <= fft / 2; ++k) {
      std::complex<double> sum = 0;
      for (int n = 0; n < s.window; ++n) {
        const double hann = 0.5 - 0.5 * std::cos(2 * std::numbers::pi * n / s.window);
        sum += std::polar(hann * pcm[f * s.stride + n],
                          -2 * std::numbers::pi * ((int64_t{k} * n) % fft) / fft);
      }
      magnitude[k] = std::abs(sum);
    }
    std::vector<double> logs;
    for (int c = 0; c < s.mel_channels; ++c) {
      double sum = 0;
      for (int k = 0; k <= fft / 2; ++k) sum += magnitude[k] * Triangle(s, fft, k, c);
      logs.push_back(std::log(std::max(sum, double{kMfccFloor})));
    }
    for (int i = 0; i < s.coefficients; ++i) {
      double sum = 0;
      for (int c = 0; c < s.mel_channels; ++c) {
        sum += std::sqrt(2.0 / s.mel_channels) *
               std::cos(std::numbers::pi * i * (c + 0.5) / s.mel_channels) * logs[c];
      }
      out.push_back(sum);
    }
  }
  return out;
}

std::vector<float> Noise(int samples, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.1F);
  std::vector<float> pcm(samples);
  for (float& x : pcm) x = normal(random);
  return pcm;
}

std::vector<float> Compute(const MfccFrontEnd& front_end, const std::vector<float>& pcm) {
  MfccFrontEnd::Scratch scratch;
  std::vector<float> out(front_end.output_size());
  front_end.Compute(pcm, scratch, out);
  return out;
}

// Noise has no empty mel channel, so the error of a logarithm is the relative error of a magnitude:
// rounding of a transform of F points, log₂ F passes, and of the sums over a channel's bins and
// over the channels, each no longer than F.
float Tolerance(int fft_length, int channels) {
  const float epsilon = std::numeric_limits<float>::epsilon();
  return epsilon * (4 * std::log2(float(fft_length)) + 8) * std::sqrt(2.0F * channels);
}

TEST(MfccTest, DefaultsAreTensorFlows) {
  const auto front_end = MfccFrontEnd::Make({});
  ASSERT_TRUE(front_end.ok());
  EXPECT_EQ(front_end->frames(), 98);
  EXPECT_EQ(front_end->fft_length(), 512);
  EXPECT_EQ(front_end->output_size(), 98 * 40);
}

TEST(MfccTest, AgreesWithTheDefinition) {
  const FrontEndSettings some[] = {
      {},
      {.coefficients = 13},
      {.clip_samples = 4000, .window = 256, .stride = 128, .coefficients = 5},
      {.clip_samples = 3001, .window = 601, .stride = 77},  // odd window, odd log₂ of the points
      {.sample_rate = 8000,
       .clip_samples = 2000,
       .window = 240,
       .stride = 80,
       .coefficients = 20,
       .mel_channels = 20},
      {.clip_samples = 500, .window = 500, .stride = 1000},  // a single frame
      {.sample_rate = 8000,
       .clip_samples = 700,
       .window = 128,
       .stride = 64,
       .coefficients = 8,
       .mel_channels = 8,
       .lower_hz = 0,
       .upper_hz = 4000},  // up to half the sample rate
  };
  for (const FrontEndSettings& s : some) {
    SCOPED_TRACE(testing::Message() << "window " << s.window << ", stride " << s.stride);
    const auto front_end = MfccFrontEnd::Make(s);
    ASSERT_TRUE(front_end.ok()) << front_end.status();
    const std::vector<float> pcm = Noise(s.clip_samples, 7);
    const std::vector<float> got = Compute(*front_end, pcm);
    const std::vector<double> want = Reference(s, pcm);
    ASSERT_EQ(got.size(), want.size());
    const float tolerance = Tolerance(front_end->fft_length(), s.mel_channels);
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], want[i], tolerance) << "frame " << i / s.coefficients;
    }
  }
}

// The same spectrum from somebody else's transform.
TEST(MfccTest, AgreesWithKissFft) {
  const auto front_end = MfccFrontEnd::Make({});
  ASSERT_TRUE(front_end.ok());
  const std::vector<float> pcm = Noise(16000, 3);
  const std::vector<float> got = Compute(*front_end, pcm);
  const int fft = front_end->fft_length();
  kiss_fftr_cfg config = kiss_fftr_alloc(fft, 0, nullptr, nullptr);
  for (int f = 0; f < front_end->frames(); ++f) {
    std::vector<float> frame(fft, 0.0F);
    for (int n = 0; n < 480; ++n) frame[n] = pcm[f * 160 + n] * front_end->window()[n];
    std::vector<kiss_fft_cpx> spectrum(front_end->bins());
    kiss_fftr(config, frame.data(), spectrum.data());
    std::vector<float> energy(40, 0.0F);
    for (int k = 0; k < front_end->bins(); ++k) {
      for (int c = 0; c < 40; ++c) {
        energy[c] += std::hypot(spectrum[k].r, spectrum[k].i) * front_end->mel()[k * 40 + c];
      }
    }
    for (int i = 0; i < 40; ++i) {
      float sum = 0;
      for (int c = 0; c < 40; ++c) sum += front_end->dct()[i * 40 + c] * std::log(energy[c]);
      ASSERT_NEAR(got[f * 40 + i], sum, Tolerance(512, 40)) << "frame " << f;
    }
  }
  kiss_fftr_free(config);
}

TEST(MfccTest, SilenceIsTheFloorInTheFirstCoefficient) {
  const auto front_end = MfccFrontEnd::Make({});
  ASSERT_TRUE(front_end.ok());
  const std::vector<float> got = Compute(*front_end, std::vector<float>(16000, 0.0F));
  const double first = std::sqrt(2.0 / 40) * 40 * std::log(kMfccFloor);
  for (int f = 0; f < 98; ++f) {
    EXPECT_NEAR(got[f * 40], first, std::abs(first) * 40 * 1.2e-7);
    for (int i = 1; i < 40; ++i) EXPECT_NEAR(got[f * 40 + i], 0, std::abs(first) * 40 * 1.2e-7);
  }
}

TEST(MfccTest, AFrameDoesNotDependOnItsNeighbours) {
  const auto front_end = MfccFrontEnd::Make({});
  ASSERT_TRUE(front_end.ok());
  std::vector<float> pcm = Noise(16000, 5);
  const std::vector<float> before = Compute(*front_end, pcm);
  std::fill(pcm.begin() + 8000, pcm.end(), 0.9F);
  const std::vector<float> after = Compute(*front_end, pcm);
  const int untouched = 1 + (8000 - 480) / 160;
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + untouched * 40, after.begin()));
  EXPECT_NE(before[untouched * 40], after[untouched * 40]);
}

TEST(MfccTest, RefusesWhatIsNoFrontEnd) {
  const auto message = [](const FrontEndSettings& s) {
    return std::string(MfccFrontEnd::Make(s).status().message());
  };
  EXPECT_THAT(message({.window = 20000}),
              HasSubstr("the window (20000 samples) is longer than the clip (16000)"));
  EXPECT_THAT(message({.window = 1}), HasSubstr("at least 2"));
  EXPECT_THAT(message({.stride = 0}), HasSubstr("a window of 480 samples every 0"));
  EXPECT_THAT(message({.coefficients = 41}), HasSubstr("write 1 to 40"));
  EXPECT_THAT(message({.sample_rate = 6000, .clip_samples = 6000}),
              HasSubstr("from 20 to 4000 Hz does not fit a sample rate of 6000 Hz"));
  EXPECT_THAT(message({.window = 100}), HasSubstr("use a longer window"));
}

}  // namespace
}  // namespace muster::worker
