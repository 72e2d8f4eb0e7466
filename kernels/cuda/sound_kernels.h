// Frames of sounds, and the logarithms of their mel channels.
//
// See kernel.h for what a kernel is, sound.h and device_ops.h for what is computed: a sample as the
// CPU computes it, bit for bit.
#pragma once

#include <cmath>

#include "kernels/cuda/kernel.h"
#include "kernels/sound.h"

namespace muster::gpu {

// An index is kWidth (1 or 4) neighbouring samples of a frame.
template <int kWidth>
struct FrameSoundsKernel {
  SoundArgs sounds;
  float* frames;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i);
    const auto groups = static_cast<uint32_t>(sounds.window / kWidth);
    const auto per_sound = static_cast<uint32_t>(sounds.frames);
    const uint32_t frame = at / groups;
    const auto first = static_cast<int32_t>(
        frame % per_sound * static_cast<uint32_t>(sounds.stride) + at % groups * kWidth);
    const std::byte* place = sounds.records + frame / per_sound * sounds.record_bytes;
    const SoundRecord record = *reinterpret_cast<const SoundRecord*>(place);
    const bool follows = record.clip == SoundRecord::kFollows;
    const int16_t* clips =
        follows ? reinterpret_cast<const int16_t*>(place + sizeof(SoundRecord)) : sounds.clips;
    const int64_t begin = follows ? 0 : record.clip;
    const auto samples = static_cast<int32_t>(sounds.samples);
    Pack4 x = {};
    for (int k = 0; k < kWidth; ++k) {
      const int32_t from = first + k - record.shift;
      if (record.clip != SoundRecord::kSilence && from >= 0 && from < samples) {
        x[k] = static_cast<float>(clips[begin + from]) * (1.0f / 32768);
      }
      if (record.scale > 0) {
        x[k] += record.scale * static_cast<float>(sounds.noise[record.noise + first + k]);
        x[k] = x[k] < -1 ? -1.0f : x[k] > 1 ? 1.0f : x[k];
      }
    }
    if constexpr (kWidth == 4) {
      Store4(x, frames + 4 * i);
    } else {
      frames[i] = x[0];
    }
  }
};

// log_mel [rows, channels] of spectrum [rows, 2 · bins], first all real parts of a row. An index is
// an element of log_mel.
struct LogMelKernel {
  MelArgs mel;
  const float* spectrum;
  float* log_mel;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i), channels = static_cast<uint32_t>(mel.channels);
    const uint32_t channel = at % channels;
    const float* re = spectrum + at / channels * 2 * mel.bins + mel.first[channel];
    const float* im = re + mel.bins;
    const int32_t begin = mel.begin[channel], end = mel.begin[channel + 1];
    float sum = 0;
    MUSTER_ROLLED
    for (int32_t k = begin; k < end; ++k, ++re, ++im) {
      sum = fmaf(sqrtf(fmaf(*im, *im, *re * *re)), mel.weights[k], sum);
    }
    log_mel[i] = logf(sum > mel.floor ? sum : mel.floor);
  }
};

}  // namespace muster::gpu
