// Kernels of the codec 1bit: the same bytes and residuals as kernels/codecs/one_bit.cc, which says
// the formulas.
//
// One pass makes the 16 partial sums of each block, an index four of them, in the CPU's order; the
// next encodes eight elements, a byte of signs, an index, each of which adds up its block's 16 sums
// and divides: that costs less than another pass. Four neighbours of the first pass read 64 bytes
// at once, which is what memory gives at once.
//
// All arrays but the scales are aligned to 16 bytes. See kernel.h for what a kernel is, codec_ops.h
// for what the kernels of a codec are.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>

#include "kernels/codec.h"
#include "kernels/cuda/four.h"
#include "kernels/cuda/kernel.h"

namespace muster::gpu {

inline constexpr int64_t kOneBitBlock = 512;  // elements
inline constexpr int64_t kOneBitSums = 16;    // partial sums of a block

// sums [blocks, 16]: sum j of a block is that of the magnitudes of its elements i with i % 16 = j.
// An index is four sums.
struct OneBitSumsKernel {
  int64_t n;
  const float* gradient;
  const float* residual;
  float* sums;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int64_t begin = i / 4 * kOneBitBlock, first = begin + i % 4 * 4;
    Pack4 sum = {};
    if (begin + kOneBitBlock <= n) {
      for (int64_t e = 0; e < kOneBitBlock; e += kOneBitSums) Add(first + e, 4, sum);
    } else {
      for (int64_t e = first; e < n; e += kOneBitSums) Add(e, CountOfFour(e, n), sum);
    }
    Store4(sum, sums + 4 * i);
  }

 private:
  MUSTER_KERNEL void Add(int64_t e, int count, Pack4& sum) const {
    const Pack4 g = LoadFour(gradient + e, count), r = LoadFour(residual + e, count);
    for (int k = 0; k < 4; ++k) sum[k] = sum[k] + fabsf(g[k] + r[k]);
  }
};

MUSTER_KERNEL float OneBitScale(uint32_t bf16) { return std::bit_cast<float>(bf16 << 16); }

// Over CeilDiv(n, 8) indices.
struct OneBitEncodeKernel {
  int64_t n;
  const float* gradient;
  float* residual;
  const float* sums;
  uint8_t* signs;
  uint8_t* scales;  // at any address

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int64_t block = i / (kOneBitBlock / 8), left = n - block * kOneBitBlock;
    const uint32_t mean = Mean(block, left < kOneBitBlock ? left : kOneBitBlock);
    if (i % (kOneBitBlock / 8) == 0) {
      scales[2 * block] = static_cast<uint8_t>(mean);
      scales[2 * block + 1] = static_cast<uint8_t>(mean >> 8);
    }
    const uint32_t low = EncodeFour(8 * i, OneBitScale(mean));
    const uint32_t high = EncodeFour(8 * i + 4, OneBitScale(mean));
    signs[i] = static_cast<uint8_t>(low | high << 4);
  }

 private:
  // As bf16.
  MUSTER_KERNEL uint32_t Mean(int64_t block, int64_t count) const {
    float sum[kOneBitSums];
    for (int p = 0; p < 4; ++p) {
      const Pack4 pack = Load4(sums + block * kOneBitSums + 4 * p);
      for (int k = 0; k < 4; ++k) sum[4 * p + k] = pack[k];
    }
    for (int j = 0; j < 8; ++j) sum[j] += sum[j + 8];
    for (int j = 0; j < 4; ++j) sum[j] += sum[j + 4];
    const float total = (sum[0] + sum[2]) + (sum[1] + sum[3]);
    const auto bits = std::bit_cast<uint32_t>(total / static_cast<float>(count));
    if (bits > 0x7f800000) return 0x7fc0;  // NaN
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  }

  // Elements [first, first + 4); returns their signs.
  MUSTER_KERNEL uint32_t EncodeFour(int64_t first, float scale) const {
    const int count = CountOfFour(first, n);
    if (count == 0) return 0;
    const Pack4 g = LoadFour(gradient + first, count);
    Pack4 x = LoadFour(residual + first, count);
    uint32_t negative = 0;
    for (int k = 0; k < 4; ++k) {
      const float sum = g[k] + x[k];
      negative |= std::bit_cast<uint32_t>(sum) >> 31 << k;
      x[k] = sum - copysignf(scale, sum);
    }
    StoreFour(x, count, residual + first);
    return negative;
  }
};

// Over CeilDiv(n, 8) indices.
struct OneBitDecodeKernel {
  int64_t n;
  const uint8_t* signs;
  const uint8_t* scales;
  float* out;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int64_t block = i / (kOneBitBlock / 8);
    const float scale =
        OneBitScale(scales[2 * block] | static_cast<uint32_t>(scales[2 * block + 1]) << 8);
    const uint32_t negative = signs[i];
    for (int half = 0; half < 2; ++half) {
      const int64_t first = 8 * i + 4 * half;
      Pack4 x;
      for (int k = 0; k < 4; ++k) x[k] = negative >> (4 * half + k) & 1 ? -scale : scale;
      StoreFour(x, CountOfFour(first, n), out + first);
    }
  }
};

struct OneBitKernels {
  static int64_t ScratchBytes(int64_t n) {
    return CeilDiv(n, kOneBitBlock) * kOneBitSums * static_cast<int64_t>(sizeof(float));
  }

  template <class Run>
  static void Encode(const Run& run, const Codec& /*codec*/, int64_t n, const float* gradient,
                     float* residual, std::byte* out, void* scratch) {
    auto* signs = reinterpret_cast<uint8_t*>(out);
    auto* sums = static_cast<float*>(scratch);
    const int64_t sign_bytes = CeilDiv(n, 8);
    run(CeilDiv(n, kOneBitBlock) * 4, OneBitSumsKernel{n, gradient, residual, sums});
    run(sign_bytes, OneBitEncodeKernel{n, gradient, residual, sums, signs, signs + sign_bytes});
  }

  template <class Run>
  static void Decode(const Run& run, const Codec& /*codec*/, int64_t n, const std::byte* encoded,
                     float* out) {
    const auto* signs = reinterpret_cast<const uint8_t*>(encoded);
    run(CeilDiv(n, 8), OneBitDecodeKernel{n, signs, signs + CeilDiv(n, 8), out});
  }
};

}  // namespace muster::gpu
