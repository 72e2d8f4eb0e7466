// MfccFrontEnd: mel-frequency cepstral coefficients of one clip, as the front end of TensorFlow's
// speech_commands computes them.
//
//   frames     x_f[n] = pcm[f · stride + n] · hann[n],  0 ≤ n < window
//              hann[n] = 0.5 − 0.5 cos(2πn / window)
//
//   magnitude  m_f[k] = |Σ_n x_f[n] e^(−2πikn / F)|,  F = least power of two ≥ window
//
//   mel        e_f[c] = Σ_k m_f[k] · mel[k][c],  triangles between 20 and 4000 Hz
//              mel = 1127 ln(1 + Hz / 700)
//
//   cepstrum   y_f[i] = Σ_c dct[i][c] · ln max(e_f[c], floor)
//              dct[i][c] = √(2 / C) cos(πi (c + ½) / C)
//
// The floor, 1e-3, is what the rounding of 16-bit samples leaves in a channel. (TensorFlow's is
// 1e-12: there a channel without sound tells how the tools that made the file round, and no two
// implementations agree about it.)
//
// Immutable after Make: thread-safe; each caller brings its own Scratch. Samples are float32 in
// [−1, 1).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "telemetry/status.h"
#include "worker/modules/speech_commands/mfcc_kernel.h"

namespace muster::worker {

struct FrontEndSettings {
  int sample_rate = 16000;   // Hz
  int clip_samples = 16000;  // samples of one clip
  int window = 480;          // samples of one frame
  int stride = 160;          // samples between the starts of two frames
  int coefficients = 40;     // kept of the cepstrum, ≤ mel_channels
  int mel_channels = 40;
  double lower_hz = 20;
  double upper_hz = 4000;
};

class MfccFrontEnd {
 public:
  // Work space of one Compute at a time; grows once, then is reused.
  class Scratch {
    friend class MfccFrontEnd;
    std::vector<float> memory_;
  };

  // Builds the tables. Fails (kInvalidArgument) when the settings make no front end: a window
  // longer than the clip, frequencies above half the sample rate, a mel channel without a single
  // frequency bin.
  static absl::StatusOr<MfccFrontEnd> Make(const FrontEndSettings& settings);

  // Writes the coefficients of `pcm` [clip_samples] to `out` [frames, coefficients].
  void Compute(std::span<const float> pcm, Scratch& scratch, std::span<float> out) const;

  const FrontEndSettings& settings() const { return settings_; }
  int frames() const { return frames_; }
  int fft_length() const { return fft_length_; }
  int bins() const { return fft_length_ / 2 + 1; }
  int64_t output_size() const { return int64_t{frames_} * settings_.coefficients; }

  // The tables, for whoever states the same front end as matrix products.
  std::span<const float> window() const { return {hann_.data(), size_t(settings_.window)}; }
  std::span<const float> mel() const { return mel_; }  // [bins, mel_channels]
  std::span<const float> dct() const { return dct_; }  // [coefficients, mel_channels]
  static constexpr float kFloor = kMfccFloor;          // of a mel channel, before the logarithm
  // The only bins that a mel channel reads.
  int first_bin() const { return first_bin_; }
  int last_bin() const { return last_bin_; }
  // The windowed transform of `bins` bins from first_bin on, [2 · bins, window]: first all real
  // parts, then the imaginary ones.
  //
  //   filter_k[n] = hann[n] · cos(2πkn / F),  filter_{bins+k}[n] = −hann[n] · sin(2πkn / F)
  std::vector<float> FourierFilters(int bins) const;
  // As in MfccPlan.
  std::span<const int> mel_first() const { return mel_first_; }
  std::span<const int> mel_begin() const { return mel_begin_; }
  std::span<const float> mel_weights() const { return mel_weights_; }

 private:
  MfccFrontEnd() = default;
  absl::Status MakeMel();
  void MakeFourier();
  void MakeDct();
  MfccPlan plan() const;

  FrontEndSettings settings_;
  int frames_ = 0, fft_length_ = 0, first_bin_ = 0, last_bin_ = 0;
  std::vector<float> hann_, mel_, dct_, twiddles_, untangle_, mel_weights_;
  std::vector<int> mel_first_, mel_begin_;
};

}  // namespace muster::worker
