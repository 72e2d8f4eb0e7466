#include "worker/modules/speech_commands/features.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "telemetry/check.h"

namespace muster::worker {
namespace {

constexpr double kPi = std::numbers::pi;
constexpr size_t kAlign = 64;  // bytes: a cache line

double Mel(double hz) { return 1127.0 * std::log1p(hz / 700.0); }

absl::Status Check(const FrontEndSettings& s) {
  const auto fail = [](const std::string& text) {
    return absl::InvalidArgumentError("the MFCC front end: " + text);
  };
  if (s.sample_rate < 1 || s.clip_samples < 1) {
    return fail(fmt::format("a clip of {} samples at {} Hz", s.clip_samples, s.sample_rate));
  }
  if (s.window < 2 || s.stride < 1) {
    return fail(fmt::format("a window of {} samples every {}; it needs at least 2 every 1",
                            s.window, s.stride));
  }
  if (s.window > s.clip_samples) {
    return fail(fmt::format("the window ({} samples) is longer than the clip ({})", s.window,
                            s.clip_samples));
  }
  if (s.mel_channels < 1 || s.coefficients < 1 || s.coefficients > s.mel_channels) {
    return fail(fmt::format("{} coefficients of {} mel channels; write 1 to {}", s.coefficients,
                            s.mel_channels, s.mel_channels));
  }
  if (s.lower_hz < 0 || s.upper_hz <= s.lower_hz || 2 * s.upper_hz > s.sample_rate) {
    return fail(fmt::format("the band from {} to {} Hz does not fit a sample rate of {} Hz",
                            s.lower_hz, s.upper_hz, s.sample_rate));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MfccFrontEnd> MfccFrontEnd::Make(const FrontEndSettings& settings) {
  RETURN_IF_ERROR(Check(settings));
  MfccFrontEnd front_end;
  front_end.settings_ = settings;
  front_end.frames_ = 1 + (settings.clip_samples - settings.window) / settings.stride;
  front_end.fft_length_ = static_cast<int>(std::bit_ceil(unsigned(settings.window)));
  RETURN_IF_ERROR(front_end.MakeMel());
  front_end.MakeFourier();
  front_end.MakeDct();
  return front_end;
}

// Each bin lies between two neighbouring centres on the mel scale and is shared between their
// channels in proportion; below the first centre and above the last one, half of the triangle
// remains. The bin of frequency zero is left out.
absl::Status MfccFrontEnd::MakeMel() {
  const int channels = settings_.mel_channels;
  const double low = Mel(settings_.lower_hz);
  const double spacing = (Mel(settings_.upper_hz) - low) / (channels + 1);
  const double hz_per_bin = 0.5 * settings_.sample_rate / (bins() - 1);
  first_bin_ = static_cast<int>(1.5 + settings_.lower_hz / hz_per_bin);
  last_bin_ = static_cast<int>(settings_.upper_hz / hz_per_bin);
  std::vector<double> weights(size_t(bins()) * channels, 0.0);
  for (int k = first_bin_; k <= last_bin_; ++k) {
    const double mel = Mel(k * hz_per_bin);
    int above = 0;  // the first centre at or above the bin; `channels` is the upper limit
    while (above < channels && low + spacing * (above + 1) < mel) {
      ++above;
    }
    const double share = (low + spacing * (above + 1) - mel) / spacing;  // of the channel below
    if (above > 0) {
      weights[size_t(k) * channels + above - 1] += share;
    }
    if (above < channels) {
      weights[size_t(k) * channels + above] += 1.0 - share;
    }
  }
  mel_.assign(weights.begin(), weights.end());

  for (int c = 0; c < channels; ++c) {
    int first = first_bin_;
    int last = last_bin_;
    while (first <= last && weights[size_t(first) * channels + c] == 0) ++first;
    while (first <= last && weights[size_t(last) * channels + c] == 0) --last;
    if (first > last) {
      return absl::InvalidArgumentError(
          fmt::format("the MFCC front end: mel channel {} of {} holds no frequency bin of a window "
                      "of {} samples at "
                      "{} Hz; use a longer window",
                      c, channels, settings_.window, settings_.sample_rate));
    }
    mel_first_.push_back(first - first_bin_);
    mel_begin_.push_back(static_cast<int>(mel_weights_.size()));
    for (int k = first; k <= last; ++k) {
      mel_weights_.push_back(mel_[size_t(k) * channels + c]);
    }
  }
  mel_begin_.push_back(static_cast<int>(mel_weights_.size()));
  return absl::OkStatus();
}

void MfccFrontEnd::MakeFourier() {
  hann_.assign(size_t(settings_.window) + settings_.window % 2, 0.0F);
  for (int n = 0; n < settings_.window; ++n) {
    hann_[n] = static_cast<float>(0.5 - 0.5 * std::cos(2 * kPi * n / settings_.window));
  }
  for (int n = fft_length_ / 2; n >= 4; n /= 4) {
    for (int p = 0; p < n / 4; ++p) {
      for (int power = 1; power <= 3; ++power) {
        const double angle = -2 * kPi * p * power / n;
        twiddles_.push_back(static_cast<float>(std::cos(angle)));
        twiddles_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
  }
  for (int k = first_bin_; k <= last_bin_; ++k) {
    const double angle = -2 * kPi * k / fft_length_;
    untangle_.push_back(static_cast<float>(std::cos(angle)));
    untangle_.push_back(static_cast<float>(std::sin(angle)));
  }
}

std::vector<float> MfccFrontEnd::FourierFilters(int bins) const {
  const std::span<const float> hann = window();
  std::vector<float> filters(2 * size_t(bins) * hann.size());
  for (int k = 0; k < bins; ++k) {
    float* real = &filters[size_t(k) * hann.size()];
    float* imaginary = &filters[size_t(bins + k) * hann.size()];
    for (size_t n = 0; n < hann.size(); ++n) {
      const auto turn =
          static_cast<double>((first_bin_ + k) * static_cast<int64_t>(n) % fft_length_);
      const double angle = 2 * kPi * turn / fft_length_;
      real[n] = static_cast<float>(hann[n] * std::cos(angle));
      imaginary[n] = static_cast<float>(-hann[n] * std::sin(angle));
    }
  }
  return filters;
}

void MfccFrontEnd::MakeDct() {
  const int channels = settings_.mel_channels;
  for (int i = 0; i < settings_.coefficients; ++i) {
    for (int c = 0; c < channels; ++c) {
      dct_.push_back(
          static_cast<float>(std::sqrt(2.0 / channels) * std::cos(kPi * i * (c + 0.5) / channels)));
    }
  }
}

MfccPlan MfccFrontEnd::plan() const {
  return {.frames = frames_,
          .stride = settings_.stride,
          .window = settings_.window,
          .half = fft_length_ / 2,
          .first_bin = first_bin_,
          .last_bin = last_bin_,
          .channels = settings_.mel_channels,
          .coefficients = settings_.coefficients,
          .hann = hann_.data(),
          .twiddles = twiddles_.data(),
          .untangle = untangle_.data(),
          .mel_first = mel_first_.data(),
          .mel_begin = mel_begin_.data(),
          .mel_weights = mel_weights_.data(),
          .dct = dct_.data()};
}

void MfccFrontEnd::Compute(std::span<const float> pcm, Scratch& scratch,
                           std::span<float> out) const {
  CHECK_EQ(pcm.size(), size_t(settings_.clip_samples));
  CHECK_EQ(out.size(), size_t(output_size()));
  const MfccPlan plan = this->plan();
  scratch.memory_.resize(plan.scratch_size() + kAlign / sizeof(float));
  const uintptr_t address = reinterpret_cast<uintptr_t>(scratch.memory_.data());
  float* aligned = scratch.memory_.data() + (-address % kAlign) / sizeof(float);
  ComputeMfcc(plan, pcm.data(), settings_.clip_samples, aligned, out.data());
}

}  // namespace muster::worker
