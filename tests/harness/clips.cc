#include "tests/harness/clips.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/philox.h"

namespace muster::harness {
namespace {

constexpr int kSamples = 16000;

template <typename F>
Clip Make(std::string name, bool tone, F sample) {
  Clip clip{std::move(name), tone, {}};
  for (int n = 0; n < kSamples; ++n) {
    const double scaled = std::round(sample(n) * 32768);
    clip.samples.push_back(static_cast<int16_t>(std::clamp(scaled, -32768.0, 32767.0)));
  }
  return clip;
}

double Sine(double hz, int n) { return std::sin(2 * std::numbers::pi * hz * n / kSamples); }

double Noise(int n) {
  const PhiloxBlock random = Philox(DeriveKey(7, HashName("noise")), uint64_t(n));
  return 2.0 * UniformFloat(random[0]) - 1;
}

// A vowel of fundamental `hz` with two formants.
double Voice(double hz, double first, double second, int n) {
  double sum = 0;
  for (int harmonic = 1; harmonic * hz < 4000; ++harmonic) {
    const double f = harmonic * hz;
    const double gain =
        1 / (1 + std::pow((f - first) / 90, 2)) + 0.5 / (1 + std::pow((f - second) / 120, 2));
    sum += gain * Sine(f, n + 31 * harmonic);
  }
  return 0.2 * sum;
}

// Rises and falls between two samples.
double Envelope(int n, int begin, int end) {
  return n < begin || n >= end ? 0 : std::sin(std::numbers::pi * (n - begin) / (end - begin));
}

}  // namespace

std::vector<float> Clip::pcm() const {
  std::vector<float> pcm;
  for (const int16_t sample : samples) pcm.push_back(static_cast<float>(sample) / 32768);
  return pcm;
}

std::vector<Clip> Clips() {
  return {
      Make("silence", false, [](int) { return 0.0; }),
      Make("noise", false, [](int n) { return 0.5 * Noise(n); }),
      Make("noise of the last bit", false, [](int n) { return Noise(n) / 32768; }),
      Make("one sample", false, [](int n) { return n == 8000 ? 1.0 / 32768 : 0.0; }),
      Make("a vowel in digital silence", false,
           [](int n) { return Voice(120, 700, 1200, n) * Envelope(n, 3000, 9000); }),
      Make("a vowel in a room", false,
           [](int n) {
             return Voice(210, 300, 2300, n) * Envelope(n, 5000, 12000) + 0.003 * Noise(n);
           }),
      Make("a hiss and a vowel", false,
           [](int n) {
             return 0.1 * Noise(n) * Envelope(n, 2000, 5000) +
                    Voice(150, 450, 1800, n) * Envelope(n, 4500, 11000) + 0.001 * Noise(n + 17);
           }),
      Make("full scale at 440 Hz", true, [](int n) { return Sine(440, n); }),
      Make("full scale at 3000 Hz", true, [](int n) { return Sine(3000, n); }),
      Make("full scale at 7000 Hz, above all channels", true, [](int n) { return Sine(7000, n); }),
      Make("quiet 1000 Hz", true, [](int n) { return 0.001 * Sine(1000, n); }),
      Make("a constant", true, [](int) { return 0.25; }),
  };
}

}  // namespace muster::harness
