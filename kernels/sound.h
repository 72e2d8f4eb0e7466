// What the ops on sounds take: records of sounds, how they are cut into frames, mel channels.
//
// Values, thread-compatible; they own nothing. Samples are 16-bit; a sound's are fractions of full
// scale, 2^15. Pointers are to memory of the stream's device.
#pragma once

#include <cstddef>
#include <cstdint>

namespace muster {

// One sound of n samples: a clip, moved in time, and noise on top of it:
//
//   x[i] = clip[i − shift] / 2^15, 0 where the clip has no such sample
//   x[i] = min(max(x[i] + scale · noise[i], −1), 1) where scale > 0
struct alignas(16) SoundRecord {
  static constexpr int64_t kSilence = -1;  // as `clip`: all zeros
  static constexpr int64_t kFollows = -2;  // as `clip`: the samples lie behind this record

  int64_t clip = kSilence;  // place of its first of n samples in SoundArgs::clips
  int64_t noise = 0;        // the same in SoundArgs::noise
  int32_t shift = 0;        // samples; positive: later
  float scale = 0;          // of the noise's samples; 0: the noise is not read
};

// How sounds are cut: frame f has the samples [f · stride, f · stride + window), none beyond the
// sound's last.
struct SoundArgs {
  int64_t samples = 0;  // of a sound
  int64_t frames = 0, window = 0, stride = 0;
  const int16_t* clips = nullptr;
  const int16_t* noise = nullptr;
  const std::byte* records = nullptr;  // one each record_bytes
  int64_t record_bytes = 0;            // a multiple of 16
};

// Channel c sums the bins from first[c] on with the weights [begin[c], begin[c + 1]).
struct MelArgs {
  int64_t bins = 0, channels = 0;
  float floor = 0;  // of a sum, > 0
  const int32_t* first = nullptr;
  const int32_t* begin = nullptr;
  const float* weights = nullptr;
};

}  // namespace muster
