// Kernels that pack many arrays into one bucket, and unpack them: a copy of each array to and from
// its place in the bucket, all in one launch.
//
// An index is four elements of one array, which it finds by binary search in a table in the
// device's memory: neighbours find the same row, so the search reads caches. What is aligned moves
// by 16 bytes, the rest element by element. See kernel.h for what a kernel is.
#pragma once

#include <span>

#include "kernels/cuda/four.h"
#include "kernels/cuda/kernel.h"

namespace muster::gpu {

// A row of the table: an array of the device's memory, and where it lies in the bucket. In
// elements; arrays do not overlap, nor do their places.
struct BucketArray {
  float* array;
  int64_t offset, size;
  int64_t first;  // index of its first four: PlaceIndices sets it
};

// Sets each row's `first`; returns how many indices the kernels take.
inline int64_t PlaceIndices(std::span<BucketArray> table) {
  int64_t indices = 0;
  for (BucketArray& row : table) {
    row.first = indices;
    indices += CeilDiv(row.size, 4);
  }
  return indices;
}

// kPack: bucket = arrays, else arrays = bucket.
template <bool kPack>
struct BucketKernel {
  int rows;  // at least one with elements
  const BucketArray* table;
  float* bucket;  // only read unless kPack

  MUSTER_KERNEL void operator()(int64_t i) const {
    // The last row with first <= i: rows without elements have the `first` of the row behind them.
    int low = 0, high = rows;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (table[middle].first <= i ? low : high) = middle;
    }
    const BucketArray row = table[low];
    const int64_t at = 4 * (i - row.first);
    const int count = CountOfFour(at, row.size);
    float* packed = bucket + row.offset + at;
    const float* from = kPack ? row.array + at : packed;
    float* to = kPack ? packed : row.array + at;
    const auto addresses = reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to);
    if (addresses % 16 == 0 && count == 4) {
      // Not Store4(Load4(from), to), of which the compiler makes four stores.
      *reinterpret_cast<Pack4*>(to) = *reinterpret_cast<const Pack4*>(from);
    } else {
      for (int k = 0; k < 4; ++k) {
        if (k < count) to[k] = from[k];
      }
    }
  }
};

}  // namespace muster::gpu
