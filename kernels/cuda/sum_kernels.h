// Kernels of CopyInto and AddInto (kernels/optimizer_math.h): dst = src or dst += src, and whether
// all that was written is finite.
//
// An index takes sixteen elements in four steps that lie far apart, so that neighbours read
// neighbours, and writes one byte of its own: no index waits for another, none writes what another
// writes, and it costs a hundredth of the traffic. Passes over the bytes, each of which leaves one
// of kFlagsPerAny, end in a single one. See kernel.h for what a kernel is.
#pragma once

#include <bit>

#include "kernels/cuda/four.h"
#include "kernels/cuda/kernel.h"

namespace muster::gpu {

inline constexpr int kFoursPerFlag = 4;

// Over CeilDiv(n, 16) indices. Arrays are aligned to 16 bytes.
template <bool kAdd>
struct CombineKernel {
  int64_t n;
  const float* src;
  float* dst;
  uint8_t* not_finite;  // a byte an index

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int64_t indices = CeilDiv(n, 4 * kFoursPerFlag);
    uint32_t largest = 0;  // magnitude, as bits
    for (int step = 0; step < kFoursPerFlag; ++step) {
      const int64_t first = 4 * (i + step * indices);
      const int count = CountOfFour(first, n);
      if (count == 0) continue;
      Pack4 x = LoadFour(src + first, count);
      if constexpr (kAdd) {
        const Pack4 sum = LoadFour(dst + first, count);
        for (int k = 0; k < 4; ++k) x[k] = sum[k] + x[k];
      }
      StoreFour(x, count, dst + first);
      for (int k = 0; k < 4; ++k) {
        const uint32_t magnitude = std::bit_cast<uint32_t>(x[k]) & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
      }
    }
    not_finite[i] = largest >= 0x7f800000 ? 1 : 0;
  }
};

// any[i] = whether one of the flags of index i is not 0, over CeilDiv(n, kFlagsPerAny) indices.
// `flags` is aligned to 16 bytes.
inline constexpr int64_t kFlagsPerAny = 256;

struct AnyKernel {
  int64_t n;
  const uint8_t* flags;
  uint8_t* any;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int64_t indices = CeilDiv(n, kFlagsPerAny);
    uint32_t bits = 0;
    for (int step = 0; step < kFlagsPerAny / 16; ++step) {
      const int64_t first = 16 * (i + step * indices);
      if (first + 16 <= n) {
        const auto pack = *reinterpret_cast<const Pack<uint32_t>*>(flags + first);
        for (int k = 0; k < 4; ++k) bits |= pack[k];
      } else {
        for (int64_t e = first; e < n; ++e) bits |= flags[e];
      }
    }
    any[i] = bits != 0 ? 1 : 0;
  }
};

// Bytes that Combine needs.
inline int64_t CombineWorkspace(int64_t n) {
  int64_t bytes = 0;
  for (int64_t flags = CeilDiv(n, 4 * kFoursPerFlag);; flags = CeilDiv(flags, kFlagsPerAny)) {
    bytes += CeilDiv(flags, 16) * 16;
    if (flags <= 1) return bytes;
  }
}

// dst = src, or dst += src, by the passes that run(indices, kernel) runs one after the other.
// Returns where in `workspace` it will say by a 1 that not all is finite, and by a 0 that all is.
// PRECONDITION: n > 0; all is aligned to 16 bytes.
template <bool kAdd, class Run>
const uint8_t* Combine(const Run& run, int64_t n, const float* src, float* dst,
                       uint8_t* workspace) {
  int64_t flags = CeilDiv(n, 4 * kFoursPerFlag);
  run(flags, CombineKernel<kAdd>{n, src, dst, workspace});
  while (flags > 1) {
    uint8_t* any = workspace + CeilDiv(flags, 16) * 16;
    run(CeilDiv(flags, kFlagsPerAny), AnyKernel{flags, workspace, any});
    flags = CeilDiv(flags, kFlagsPerAny);
    workspace = any;
  }
  return workspace;
}

}  // namespace muster::gpu
