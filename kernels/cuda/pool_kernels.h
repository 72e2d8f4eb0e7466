// Kernels of max pooling with relu and dropout in front, and of its gradient.
//
// An index is kWidth (1 or 4) neighbouring channels of one pixel: of the output, and of the input
// for the gradient, which gathers from the windows that hold the pixel, in their order. See
// kernel.h for what a kernel is, device_ops.h for what is computed.
#pragma once

#include "kernels/cuda/dropout_kernels.h"
#include "kernels/cuda/kernel.h"
#include "kernels/device_ops.h"

namespace muster::gpu {

template <int kWidth>
MUSTER_KERNEL void LoadChannels(const float* x, float (&v)[kWidth]) {
  if constexpr (kWidth == 4) {
    const Pack4 pack = Load4(x);
    for (int k = 0; k < 4; ++k) v[k] = pack[k];
  } else {
    v[0] = x[0];
  }
}

template <int kWidth>
MUSTER_KERNEL void StoreChannels(const float (&v)[kWidth], float* y) {
  if constexpr (kWidth == 4) {
    Store4({{v[0], v[1], v[2], v[3]}}, y);
  } else {
    y[0] = v[0];
  }
}

// The winners' bytes of four channels are read and written as one word.
template <int kWidth>
MUSTER_KERNEL uint32_t LoadWinners(const uint8_t* winners) {
  if constexpr (kWidth == 4) return *reinterpret_cast<const uint32_t*>(winners);
  return winners[0];
}

template <int kWidth>
MUSTER_KERNEL void StoreWinners(uint32_t places, uint8_t* winners) {
  if constexpr (kWidth == 4) {
    *reinterpret_cast<uint32_t*>(winners) = places;
  } else {
    winners[0] = static_cast<uint8_t>(places);
  }
}

// Window in the 32 bits that a GPU divides fast.
struct Window32 {
  int in_h, in_w, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, out_h, out_w;

  static Window32 Of(const Window& w) {
    const auto n = [](int64_t v) { return static_cast<int>(v); };
    return {n(w.in.h),     n(w.in.w),  n(w.kernel.h), n(w.kernel.w), n(w.stride.h),
            n(w.stride.w), n(w.pad.h), n(w.pad.w),    n(w.out.h),    n(w.out.w)};
  }
};

// The pixel and the first channel that index i stands for, in images [h, w, channels] of which an
// index takes kWidth channels.
template <int kWidth>
struct Pixel {
  int64_t sample;
  int row, column, channel;

  MUSTER_KERNEL Pixel(int64_t i, int h, int w, int channels) {
    auto at = static_cast<uint32_t>(i);
    const uint32_t groups = static_cast<uint32_t>(channels) / kWidth;
    channel = static_cast<int>(at % groups) * kWidth;
    at /= groups;
    column = static_cast<int>(at % static_cast<uint32_t>(w));
    at /= static_cast<uint32_t>(w);
    row = static_cast<int>(at % static_cast<uint32_t>(h));
    sample = at / static_cast<uint32_t>(h);
  }
};

template <int kWidth>
struct MaxPoolKernel {
  Window32 w;
  int channels;
  bool relu;
  Keep keep;
  const float* bias;  // [channels], or null
  const float* x;
  float* y;
  uint8_t* winners;  // or null

  MUSTER_KERNEL void operator()(int64_t i) const {
    const Pixel<kWidth> out(i, w.out_h, w.out_w, channels);
    const int top = out.row * w.stride_h - w.pad_h, left = out.column * w.stride_w - w.pad_w;
    const float* image = x + out.sample * w.in_h * w.in_w * channels;
    KeepCache cache(keep);
    float add[kWidth];
    for (int k = 0; k < kWidth; ++k) add[k] = 0;
    if (bias != nullptr) LoadChannels<kWidth>(bias + out.channel, add);
    float best[kWidth];
    for (int k = 0; k < kWidth; ++k) best[k] = 0;
    uint32_t places = 0xffffffff;  // kNoWinner
    bool first = !relu;            // then the first pixel beats what `best` begins with
    for (int a = 0; a < w.kernel_h; ++a) {
      if (top + a < 0 || top + a >= w.in_h) continue;
      for (int b = 0; b < w.kernel_w; ++b) {
        if (left + b < 0 || left + b >= w.in_w) continue;
        const int64_t e = int64_t{(top + a) * w.in_w + left + b} * channels + out.channel;
        float v[kWidth];
        LoadChannels<kWidth>(image + e, v);
        const uint32_t kept = keep.all() ? 0xf : cache.Bits(out.sample, e, kWidth);
        const auto place = static_cast<uint32_t>(a * w.kernel_w + b);
        for (int k = 0; k < kWidth; ++k) {
          v[k] = (kept >> k & 1) == 0 ? 0 : v[k] + add[k];
          if (v[k] > best[k] || first) {
            best[k] = v[k];
            places = (places & ~(0xffu << (8 * k))) | place << (8 * k);
          }
        }
        first = false;
      }
    }
    for (int k = 0; k < kWidth; ++k) best[k] *= keep.scale;
    StoreChannels<kWidth>(best, y + i * kWidth);
    if (winners != nullptr) StoreWinners<kWidth>(places, winners + i * kWidth);
  }
};

template <int kWidth>
struct MaxPoolGradientKernel {
  Window32 w;
  int channels;
  float scale;
  const uint8_t* winners;
  const float* dy;
  float* dx;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const Pixel<kWidth> in(i, w.in_h, w.in_w, channels);
    float sum[kWidth];
    for (int k = 0; k < kWidth; ++k) sum[k] = 0;
    // The windows r with r * stride - pad <= in.row < r * stride - pad + kernel, and c likewise.
    const int row = in.row + w.pad_h, column = in.column + w.pad_w;
    const int first_r = row < w.kernel_h ? 0 : (row - w.kernel_h) / w.stride_h + 1;
    const int first_c = column < w.kernel_w ? 0 : (column - w.kernel_w) / w.stride_w + 1;
    for (int r = first_r; r < w.out_h && r * w.stride_h <= row; ++r) {
      for (int c = first_c; c < w.out_w && c * w.stride_w <= column; ++c) {
        const auto here =
            static_cast<uint32_t>((row - r * w.stride_h) * w.kernel_w + column - c * w.stride_w);
        const int64_t at = ((in.sample * w.out_h + r) * w.out_w + c) * channels + in.channel;
        const uint32_t places = LoadWinners<kWidth>(winners + at);
        float g[kWidth];
        LoadChannels<kWidth>(dy + at, g);
        for (int k = 0; k < kWidth; ++k) {
          if ((places >> (8 * k) & 0xff) == here) sum[k] += g[k] * scale;
        }
      }
    }
    StoreChannels<kWidth>(sum, dx + i * kWidth);
  }
};

}  // namespace muster::gpu
