// Images as matrices of patches, and back, for convolutions that are matrix products.
//
//   patches [n * out.h * out.w, kernel.h * kernel.w * channels]: row (s, i, j) is what the window
//   at (i, j) of image s sees, 0 beyond the border
//
// See kernel.h for what a kernel is.
#pragma once

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/pool_kernels.h"

namespace muster::gpu {

// An index is an element of the patches.
struct PatchKernel {
  Window32 w;
  int channels;
  const float* x;
  float* patches;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i);
    const auto row = static_cast<uint32_t>(w.kernel_w * channels);
    const uint32_t patch = row * static_cast<uint32_t>(w.kernel_h);
    const uint32_t element = at % patch, pixel = at / patch;
    const int a = static_cast<int>(element / row);
    const int b = static_cast<int>(element % row) / channels;
    const int channel = static_cast<int>(element % static_cast<uint32_t>(channels));
    const int column = static_cast<int>(pixel % static_cast<uint32_t>(w.out_w));
    const uint32_t line = pixel / static_cast<uint32_t>(w.out_w);
    const int r =
        static_cast<int>(line % static_cast<uint32_t>(w.out_h)) * w.stride_h - w.pad_h + a;
    const int c = column * w.stride_w - w.pad_w + b;
    const int64_t sample = line / static_cast<uint32_t>(w.out_h);
    const bool inside = r >= 0 && r < w.in_h && c >= 0 && c < w.in_w;
    patches[i] = inside ? x[((sample * w.in_h + r) * w.in_w + c) * channels + channel] : 0;
  }
};

// dx = the sum over the windows that see a pixel, in their order; an index is an element of dx.
struct PatchGradientKernel {
  Window32 w;
  int channels;
  const float* dpatches;
  float* dx;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const Pixel<1> in(i, w.in_h, w.in_w, channels);
    const int row = in.row + w.pad_h, column = in.column + w.pad_w;
    const int first_r = row < w.kernel_h ? 0 : (row - w.kernel_h) / w.stride_h + 1;
    const int first_c = column < w.kernel_w ? 0 : (column - w.kernel_w) / w.stride_w + 1;
    const int64_t patch = int64_t{w.kernel_h} * w.kernel_w * channels;
    float sum = 0;
    for (int r = first_r; r < w.out_h && r * w.stride_h <= row; ++r) {
      for (int c = first_c; c < w.out_w && c * w.stride_w <= column; ++c) {
        const int place = (row - r * w.stride_h) * w.kernel_w + column - c * w.stride_w;
        const int64_t pixel = (in.sample * w.out_h + r) * w.out_w + c;
        sum += dpatches[pixel * patch + int64_t{place} * channels + in.channel];
      }
    }
    dx[i] = sum;
  }
};

}  // namespace muster::gpu
