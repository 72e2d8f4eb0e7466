// Four elements of an array, or what is left of them at its end.
//
// Index i of a kernel over n elements stands for [4 i, 4 i + 4); only the last index finds fewer.
// Free functions for kernels (kernel.h).
#pragma once

#include "kernels/cuda/kernel.h"

namespace muster::gpu {

// How many of [first, first + 4) are below n: 0 to 4.
MUSTER_KERNEL int CountOfFour(int64_t first, int64_t n) {
  const int64_t left = n - first;
  return left >= 4 ? 4 : left > 0 ? static_cast<int>(left) : 0;
}

// x[0, count), and 0 for the others. PRECONDITION: `x` is aligned to 16 bytes.
MUSTER_KERNEL Pack4 LoadFour(const float* x, int count) {
  if (count == 4) return Load4(x);
  Pack4 pack = {};
  for (int k = 0; k < 3; ++k) {
    if (k < count) pack[k] = x[k];
  }
  return pack;
}

// x[0, count) = pack. PRECONDITION: `x` is aligned to 16 bytes.
MUSTER_KERNEL void StoreFour(const Pack4& pack, int count, float* x) {
  if (count == 4) return Store4(pack, x);
  for (int k = 0; k < 3; ++k) {
    if (k < count) x[k] = pack[k];
  }
}

}  // namespace muster::gpu
