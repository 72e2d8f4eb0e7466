// The tolerance of tests that compare two float32 evaluations of the MFCC front end.
//
// A pure function: thread-safe.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <span>
#include <vector>

#include "worker/modules/speech_commands/features.h"

namespace muster::worker {

// How far two float32 evaluations of one frame's coefficients may be apart, u being the unit
// roundoff. A magnitude is a sum of `window` products: rounding of random sign leaves u √window
// ‖frame‖. A mel channel passes that on relative to its own energy, which is small where a loud
// tone lies in another channel. The rows of the cosine transform have norm 1 (the first one √2) and
// sum `mel_channels` logarithms.
inline double MfccTolerance(const MfccFrontEnd& front_end, std::span<const float> frame) {
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

}  // namespace muster::worker
