// What stands around cuDNN's convolutions: images with TensorFlow's padding, whose odd pixel is at
// the end and which cuDNN's classic interface cannot express, and filters [kernel.h, kernel.w, in,
// out] as cuDNN wants them, [out, kernel.h, kernel.w, in].
//
// See kernel.h for what a kernel is.
#pragma once

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/pool_kernels.h"
#include "kernels/device_ops.h"

namespace muster::gpu {

// An image [h, w, channels] within one that has more pixels, `top` rows and `left` columns from
// its corner.
struct Frame {
  int h, w, channels;               // of the image
  int outer_h, outer_w, top, left;  // of what holds it
};

// The images that a convolution's windows see: with the padding, without what no window reaches.
inline Frame FrameOf(const Conv2dArgs& args) {
  const Window& w = args.window;
  const auto n = [](int64_t v) { return static_cast<int>(v); };
  return {n(w.in.h),
          n(w.in.w),
          n(args.in_channels),
          n((w.out.h - 1) * w.stride.h + w.kernel.h),
          n((w.out.w - 1) * w.stride.w + w.kernel.w),
          n(w.pad.h),
          n(w.pad.w)};
}

// outer = the image, and zeros around it; an index is kWidth channels of a pixel of outer.
template <int kWidth>
struct PadKernel {
  Frame f;
  const float* x;
  float* outer;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const Pixel<kWidth> p(i, f.outer_h, f.outer_w, f.channels);
    const int row = p.row - f.top, column = p.column - f.left;
    float v[kWidth];
    for (int k = 0; k < kWidth; ++k) v[k] = 0;
    if (row >= 0 && row < f.h && column >= 0 && column < f.w) {
      LoadChannels<kWidth>(x + ((p.sample * f.h + row) * f.w + column) * f.channels + p.channel, v);
    }
    StoreChannels<kWidth>(v, outer + i * kWidth);
  }
};

// The image out of outer, 0 where outer does not hold it; an index is kWidth channels of a pixel of
// the image.
template <int kWidth>
struct CropKernel {
  Frame f;
  const float* outer;
  float* x;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const Pixel<kWidth> p(i, f.h, f.w, f.channels);
    const int row = p.row + f.top, column = p.column + f.left;
    float v[kWidth];
    for (int k = 0; k < kWidth; ++k) v[k] = 0;
    if (row < f.outer_h && column < f.outer_w) {
      LoadChannels<kWidth>(
          outer + ((p.sample * f.outer_h + row) * f.outer_w + column) * f.channels + p.channel, v);
    }
    StoreChannels<kWidth>(v, x + i * kWidth);
  }
};

// y [cols, rows] = the transpose of x [rows, cols]; an index is an element of y. For filters, which
// are small.
struct TransposeKernel {
  int rows, cols;
  const float* x;
  float* y;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i), width = static_cast<uint32_t>(rows);
    y[i] = x[int64_t{at % width} * cols + at / width];
  }
};

}  // namespace muster::gpu
