// The CPU's ops on sounds, as their definitions have them: for comparisons. Data sets on the CPU
// have their own way, with a transform that is faster than a product.
#include <algorithm>
#include <cmath>

#include "kernels/op_cpu.h"
#include "kernels/parallel_cpu.h"

namespace muster {

void CpuOps::FrameSounds(Stream&, int64_t n, const SoundArgs& sounds, float* frames) {
  ParallelFor(threads_, n, [&](int, int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const std::byte* place = sounds.records + s * sounds.record_bytes;
      const SoundRecord& record = *reinterpret_cast<const SoundRecord*>(place);
      const bool follows = record.clip == SoundRecord::kFollows;
      const int16_t* clips =
          follows ? reinterpret_cast<const int16_t*>(place + sizeof(SoundRecord)) : sounds.clips;
      const int64_t first = follows ? 0 : record.clip;
      float* to = frames + s * sounds.frames * sounds.window;
      for (int64_t f = 0; f < sounds.frames; ++f) {
        for (int64_t i = f * sounds.stride; i < f * sounds.stride + sounds.window; ++i, ++to) {
          const int64_t from = i - record.shift;
          const bool heard =
              record.clip != SoundRecord::kSilence && from >= 0 && from < sounds.samples;
          *to = heard ? static_cast<float>(clips[first + from]) / 32768 : 0;
          if (record.scale > 0) {
            *to += record.scale * static_cast<float>(sounds.noise[record.noise + i]);
            *to = std::clamp(*to, -1.0f, 1.0f);
          }
        }
      }
    }
  });
}

void CpuOps::LogMel(Stream&, int64_t rows, const MelArgs& mel, const float* spectrum,
                    float* log_mel) {
  ParallelFor(threads_, rows, [&](int, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* re = spectrum + row * 2 * mel.bins;
      for (int64_t c = 0; c < mel.channels; ++c) {
        float sum = 0;
        int64_t bin = mel.first[c];
        for (int32_t k = mel.begin[c]; k < mel.begin[c + 1]; ++k, ++bin) {
          sum += mel.weights[k] * std::hypot(re[bin], re[mel.bins + bin]);
        }
        log_mel[row * mel.channels + c] = std::log(std::max(sum, mel.floor));
      }
    }
  });
}

}  // namespace muster
