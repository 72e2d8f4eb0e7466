// The vectorised inside of MfccFrontEnd: several frames at a time, one frame per lane, so that no
// sum crosses lanes and a frame's result does not depend on its neighbours. Compiled for several
// instruction sets; the best one is chosen at run time. Thread-safe.
#pragma once

#include <cstddef>

namespace muster::worker {

inline constexpr float kMfccFloor = 1e-3F;

// Tables and sizes of one front end; features.h has the formulas. The pointers are owned by the
// MfccFrontEnd.
struct MfccPlan {
  static constexpr int kMaxLanes = 8;

  int frames, stride, window;
  int half;                 // complex points: half of the FFT's length
  int first_bin, last_bin;  // the only bins that a mel channel reads
  int channels, coefficients;
  const float* hann;      // [window, rounded up to even with a zero]
  const float* twiddles;  // per radix-4 pass over n points, n / 4 times (w, w², w³) as re, im: w =
                          // e^(−2πip / n)
  const float* untangle;     // [last_bin − first_bin + 1] times re, im: e^(−2πik / 2half)
  const int* mel_first;      // [channels]: the channel's first bin, counted from first_bin
  const int* mel_begin;      // [channels + 1]: where its weights begin in mel_weights
  const float* mel_weights;  // without the zeros
  const float* dct;          // [coefficients, channels]

  // Columns of the framed signal: the frames, rounded up to whole groups, and the reach of a window
  // past the last one.
  int columns() const {
    return (frames + kMaxLanes - 1) / kMaxLanes * kMaxLanes + window / stride + 1;
  }
  size_t scratch_size() const {
    return size_t(stride) * columns() +
           size_t(kMaxLanes) * (size_t(4) * half + (last_bin - first_bin + 1) + channels);
  }
};

// Writes `out` [frames, coefficients] from `pcm` [samples]. `scratch` holds scratch_size() floats.
void ComputeMfcc(const MfccPlan& plan, const float* pcm, int samples, float* scratch, float* out);

}  // namespace muster::worker
