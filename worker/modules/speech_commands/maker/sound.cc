#include "worker/modules/speech_commands/maker/sound.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>

#include "telemetry/check.h"

namespace muster::worker {
namespace {

constexpr double kPi = std::numbers::pi;

float Peak(std::span<const float> x) {
  float peak = 0;
  for (const float v : x) peak = std::max(peak, std::abs(v));
  return peak;
}

// The part between the first and the last sample that is louder than a hundredth of the peak.
std::span<const float> Trim(std::span<const float> word) {
  const float threshold = 0.01F * Peak(word);
  size_t begin = 0, end = word.size();
  while (begin < end && std::abs(word[begin]) <= threshold) ++begin;
  while (end > begin && std::abs(word[end - 1]) <= threshold) --end;
  return word.subspan(begin, end - begin);
}

// y[n] = x[n] − tilt x[n − 1]: more of the high tones for a positive tilt, more of the low ones for
// a negative one.
void Tilt(std::vector<float>& x, double tilt) {
  for (size_t n = x.size(); n-- > 1;) {
    x[n] -= static_cast<float>(tilt) * x[n - 1];
  }
}

// Three reflections, each later and weaker than the one before.
void Echo(std::vector<float>& x, double strength, Draws& draws) {
  const std::vector<float> dry = x;
  double gain = strength;
  size_t delay = 0;
  for (int i = 0; i < 3; ++i, gain *= 0.6) {
    delay += static_cast<size_t>(draws.Uniform(0.004, 0.02) * kMadeRate);
    const float g = static_cast<float>(draws.Uniform(-gain, gain));
    for (size_t n = delay; n < x.size(); ++n) {
      x[n] += g * dry[n - delay];
    }
  }
}

int16_t ToInt16(float v) {
  return static_cast<int16_t>(std::lround(std::clamp(v * 32768.0F, -32768.0F, 32767.0F)));
}

std::vector<float> White(Draws& draws, int64_t samples) {
  std::vector<float> x(samples);
  for (float& v : x) v = static_cast<float>(draws.Normal());
  return x;
}

// Leaky integration of white noise.
std::vector<float> Brown(Draws& draws, int64_t samples) {
  std::vector<float> x = White(draws, samples);
  float sum = 0;
  for (float& v : x) v = sum = 0.995F * sum + v;
  return x;
}

// A sum of low-passed noises with corners an octave apart falls by 3 dB per octave.
std::vector<float> Pink(Draws& draws, int64_t samples) {
  std::vector<float> x(samples, 0.0F);
  for (double corner = 20; 2 * corner < kMadeRate; corner *= 2) {
    const float keep = static_cast<float>(std::exp(-2 * kPi * corner / kMadeRate));
    const float gain = std::sqrt(1 - keep * keep);
    float state = 0;
    for (float& v : x) {
      state = keep * state + gain * static_cast<float>(draws.Normal());
      v += state;
    }
  }
  return x;
}

// The mains and its odd harmonics, wandering a little, over white noise.
std::vector<float> Hum(Draws& draws, int64_t samples) {
  std::vector<float> x = White(draws, samples);
  for (float& v : x) v *= 0.05F;
  for (int harmonic = 1; harmonic <= 15; harmonic += 2) {
    const double gain = draws.Uniform(0.3, 1) / harmonic;
    double phase = draws.Uniform(0, 2 * kPi), wander = 0;
    for (float& v : x) {
      wander = 0.9999 * wander + 0.0005 * draws.Normal();
      phase += 2 * kPi * (50 + wander) * harmonic / kMadeRate;
      v += static_cast<float>(gain * std::sin(phase));
    }
  }
  return x;
}

// Short resonant knocks at random moments: keys, dishes.
std::vector<float> Clicks(Draws& draws, int64_t samples) {
  std::vector<float> x = White(draws, samples);
  for (float& v : x) v *= 0.02F;
  for (int64_t at = 0; at < samples;
       at += static_cast<int64_t>(draws.Uniform(0.02, 0.4) * kMadeRate)) {
    const double hz = draws.Uniform(300, 5000), decay = draws.Uniform(0.002, 0.02) * kMadeRate;
    const double gain = draws.Uniform(0.3, 2);
    for (int64_t n = 0; n < int64_t(6 * decay) && at + n < samples; ++n) {
      x[at + n] +=
          static_cast<float>(gain * std::exp(-n / decay) * std::sin(2 * kPi * hz * n / kMadeRate));
    }
  }
  return x;
}

struct Kind {
  const char* name;
  std::vector<float> (*make)(Draws&, int64_t);
};
constexpr Kind kKinds[] = {{"white_noise", White},
                           {"pink_noise", Pink},
                           {"brown_noise", Brown},
                           {"mains_hum", Hum},
                           {"clicks", Clicks}};

}  // namespace

std::vector<float> Resample(std::span<const float> input, int from) {
  constexpr int kHalf = 16;  // taps on each side
  const int common = std::gcd(from, kMadeRate);
  const int up = kMadeRate / common, down = from / common;
  const double cutoff = 0.95 * std::min(1.0, double(kMadeRate) / from);
  // taps[phase][k] weighs input[base − kHalf + 1 + k] for an output at base + phase / up.
  std::vector<std::array<float, 2 * kHalf>> taps(up);
  for (int phase = 0; phase < up; ++phase) {
    for (int k = 0; k < 2 * kHalf; ++k) {
      const double t = k - kHalf + 1 - double(phase) / up;
      const double sinc = t == 0 ? 1 : std::sin(kPi * cutoff * t) / (kPi * cutoff * t);
      const double window = 0.5 + 0.5 * std::cos(kPi * std::clamp(t / kHalf, -1.0, 1.0));
      taps[phase][k] = static_cast<float>(cutoff * sinc * window);
    }
  }
  const int64_t size = static_cast<int64_t>(input.size());
  std::vector<float> output(size * up / down);
  for (int64_t n = 0; n < static_cast<int64_t>(output.size()); ++n) {
    const int64_t first = n * down / up - kHalf + 1;
    const auto& row = taps[n * down % up];
    const int64_t begin = std::max<int64_t>(0, -first);
    const int64_t end = std::min<int64_t>(2 * kHalf, size - first);
    float sum = 0;
    for (int64_t k = begin; k < end; ++k) sum += row[k] * input[first + k];
    output[n] = sum;
  }
  return output;
}

std::vector<int16_t> MakeClip(const ClipPlan& plan, uint64_t seed, std::span<const float> word) {
  Draws draws(seed, "speech/sound", plan.index);
  word = Trim(word);
  word = word.first(std::min<size_t>(word.size(), kMadeClip));
  std::vector<float> clip(kMadeClip, 0.0F);
  std::copy(word.begin(), word.end(),
            clip.begin() + static_cast<int64_t>(plan.place * double(kMadeClip - word.size())));
  Tilt(clip, plan.tilt);
  Echo(clip, plan.echo, draws);
  const float peak = Peak(clip);
  const float scale = peak > 0 ? static_cast<float>(plan.peak) / peak : 0.0F;
  std::vector<int16_t> samples(kMadeClip);
  for (int n = 0; n < kMadeClip; ++n) {
    samples[n] = ToInt16(scale * clip[n] + static_cast<float>(plan.floor * draws.Normal()));
  }
  return samples;
}

std::vector<std::string> NoiseNames() {
  std::vector<std::string> names;
  for (const Kind& kind : kKinds) names.emplace_back(kind.name);
  return names;
}

std::vector<float> MakeNoise(const std::string& name, uint64_t seed, int64_t samples) {
  for (const Kind& kind : kKinds) {
    if (name == kind.name) {
      Draws draws(seed, kind.name, 0);
      return kind.make(draws, samples);
    }
  }
  CheckFailed(__FILE__, __LINE__, "no noise is called " + name);
}

std::vector<float> MakeBabble(std::span<const std::vector<int16_t>> words, uint64_t seed,
                              int64_t samples) {
  Draws draws(seed, "babble", 0);
  std::vector<float> x(samples, 0.0F);
  for (const std::vector<int16_t>& word : words) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      const int64_t at = draws.Below(samples);
      const float gain = static_cast<float>(draws.Uniform(0.3, 1));
      for (size_t n = 0; n < word.size(); ++n) {
        x[(at + static_cast<int64_t>(n)) % samples] += gain * static_cast<float>(word[n]);
      }
    }
  }
  return x;
}

std::vector<int16_t> FinishNoise(const std::vector<float>& noise) {
  constexpr double kLevel = 0.1;  // root mean square, of full scale
  double energy = 0;
  for (const float v : noise) energy += double(v) * v;
  const double rms = std::sqrt(energy / static_cast<double>(noise.size()));
  const float scale = rms > 0 ? static_cast<float>(kLevel / rms) : 0.0F;
  std::vector<int16_t> samples;
  samples.reserve(noise.size());
  for (const float v : noise) samples.push_back(ToInt16(scale * v));
  return samples;
}

}  // namespace muster::worker
