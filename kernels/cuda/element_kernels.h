// Kernels over plain arrays: fill, store, axpy, what is not finite, rows broadcast, rows summed.
//
// See kernel.h for what a kernel is, device_ops.h for what is computed.
#pragma once

#include <bit>
#include <cmath>

#include "kernels/cuda/four.h"
#include "kernels/cuda/kernel.h"

namespace muster::gpu {

// Four elements an index (four.h).
struct FillKernel {
  int64_t n;
  float value;
  float* x;

  MUSTER_KERNEL void operator()(int64_t i) const {
    StoreFour({{value, value, value, value}}, CountOfFour(4 * i, n), x + 4 * i);
  }
};

// *to = value, an index.
struct StoreKernel {
  int64_t value;
  int64_t* to;

  MUSTER_KERNEL void operator()(int64_t) const { *to = value; }
};

// y += a x, as FillKernel.
struct AxpyKernel {
  int64_t n;
  float a;
  const float* x;
  float* y;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int count = CountOfFour(4 * i, n);
    const Pack4 from = LoadFour(x + 4 * i, count);
    Pack4 to = LoadFour(y + 4 * i, count);
    for (int k = 0; k < 4; ++k) to[k] = fmaf(a, from[k], to[k]);
    StoreFour(to, count, y + 4 * i);
  }
};

// *found = 1 where x holds what is not finite, as FillKernel. All who write it write the same.
struct NonFiniteKernel {
  int64_t n;
  const float* x;
  int32_t* found;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const Pack4 pack = LoadFour(x + 4 * i, CountOfFour(4 * i, n));
    uint32_t largest = 0;  // magnitude, as bits
    for (int k = 0; k < 4; ++k) {
      const uint32_t magnitude = std::bit_cast<uint32_t>(pack[k]) & 0x7fffffff;
      largest = magnitude > largest ? magnitude : largest;
    }
    if (largest >= 0x7f800000) *found = 1;
  }
};

// y [rows, cols] = row [cols] in each, an element an index.
struct BroadcastRowKernel {
  int64_t cols;
  const float* row;
  float* y;

  MUSTER_KERNEL void operator()(int64_t i) const {
    y[i] = row[static_cast<uint32_t>(i) % static_cast<uint32_t>(cols)];
  }
};

// y[i, j] += row[j], kWidth (1 or 4) elements an index: a convolution's bias. With 4, rows that
// ByFours allows.
template <int kWidth>
struct AddRowKernel {
  int64_t cols;
  const float* row;
  float* y;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const uint32_t column = static_cast<uint32_t>(i) % static_cast<uint32_t>(cols / kWidth);
    if constexpr (kWidth == 4) {
      Pack4 to = Load4(y + 4 * i);
      const Pack4 add = Load4(row + 4 * column);
      for (int k = 0; k < 4; ++k) to[k] += add[k];
      Store4(to, y + 4 * i);
    } else {
      y[i] += row[column];
    }
  }
};

// Sums of columns come in passes: each sums chunks of kSumChunk rows, an index for a chunk and
// kWidth (1 or 4) of its columns, into partial [chunks, cols], until one row is left.
inline constexpr int64_t kSumChunk = 64;

template <int kWidth>
struct SumChunksKernel {
  int64_t rows, cols;
  const float* x;
  float* partial;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i), groups = static_cast<uint32_t>(cols / kWidth);
    const int64_t first = at / groups * kSumChunk, column = int64_t{at % groups} * kWidth;
    const int64_t end = first + kSumChunk < rows ? first + kSumChunk : rows;
    if constexpr (kWidth == 4) {
      Pack4 sum = {};
      for (int64_t r = first; r < end; ++r) {
        const Pack4 add = Load4(x + r * cols + column);
        for (int k = 0; k < 4; ++k) sum[k] += add[k];
      }
      Store4(sum, partial + 4 * i);
    } else {
      float sum = 0;
      for (int64_t r = first; r < end; ++r) sum += x[r * cols + column];
      partial[i] = sum;
    }
  }
};

}  // namespace muster::gpu
