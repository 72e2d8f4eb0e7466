// Noise: the recordings of the `_background_noise_` folder, from which pieces are mixed into clips.
//
// Immutable after Load: thread-safe. Samples are int16, at most kMaxSamples in all.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "telemetry/status.h"
#include "worker/module.h"

namespace muster::worker {

class Noise {
 public:
  static constexpr int64_t kMaxSamples = 16 << 20;  // 32 MiB; longer recordings are cut, all alike

  // Reads every .wav of `folder`, in order of name. An absent folder means no noise. Fails when the
  // folder holds no .wav, when one of them is bad, or is not longer than `clip_samples`.
  static absl::StatusOr<Noise> Load(const std::string& folder, int sample_rate, int clip_samples);

  bool empty() const { return samples_.empty(); }

  // All recordings, one behind the other.
  std::span<const int16_t> samples() const { return samples_; }
  // A piece of clip_samples of these samples, picked by two uniform words. Evaluation draws from
  // the last fifth of each recording and training from what comes before, so that noise, too, is
  // unheard there; a recording too short for that is used whole by both.
  std::span<const int16_t> Pick(Split split, uint32_t which, uint32_t where) const;

 private:
  int clip_samples_ = 0;
  std::vector<int16_t> samples_;
  std::vector<size_t> begin_ = {0};  // of each recording in samples_, and one past the last
};

}  // namespace muster::worker
