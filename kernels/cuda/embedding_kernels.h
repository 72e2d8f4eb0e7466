// Kernels of embeddings: rows gathered by ids, and gradients added to the rows that ids name, each
// row once.
//
//   gather       y[i] = table[ids[i]]
//   scatter-add  table[r] = (table[r] + dy[p1]) + dy[p2] + …, p1 < p2 < … the i with ids[i] = r
//
// For the latter the ids come sorted, with their positions, equal ones in the order of their
// positions (a stable sort of pairs: sort.h). The index at which a run of equal ids
// begins adds the whole run, in that order: no list of runs is needed, and the sum is that of a
// loop over positions, bit for bit. A single id that is most of the ids is added by few threads
// one after the other: correct, but slow.
//
// An index is kWidth (1 or 4) columns; with 4, rows that ByFours allows. See kernel.h for what a
// kernel is.
#pragma once

#include "kernels/cuda/kernel.h"

namespace muster::gpu {

// y [n, width], over n * width / kWidth indices. PRECONDITION: the ids are rows of the table.
template <int kWidth>
struct GatherRowsKernel {
  int64_t width;
  const int32_t* ids;
  const float* table;
  float* y;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i), groups = static_cast<uint32_t>(width / kWidth);
    const float* from = table + ids[at / groups] * width + at % groups * kWidth;
    if constexpr (kWidth == 4) {
      Store4(Load4(from), y + 4 * i);
    } else {
      y[i] = *from;
    }
  }
};

// positions[i] = i.
struct PositionsKernel {
  int32_t* positions;

  MUSTER_KERNEL void operator()(int64_t i) const { positions[i] = static_cast<int32_t>(i); }
};

// Over n * width / kWidth indices. PRECONDITION: the ids are rows of the table, the positions of
// dy [n, width].
template <int kWidth>
struct ScatterAddRowsKernel {
  int64_t n, width;
  const int32_t* ids;        // ascending
  const int32_t* positions;  // of each id; ascending where ids are equal
  const float* dy;
  float* table;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i), groups = static_cast<uint32_t>(width / kWidth);
    const int64_t first = at / groups, column = int64_t{at % groups} * kWidth;
    const int32_t id = ids[first];
    if (first > 0 && ids[first - 1] == id) return;
    float* to = table + id * width + column;
    if constexpr (kWidth == 4) {
      Pack4 sum = Load4(to);
      for (int64_t j = first; j < n && ids[j] == id; ++j) {
        const Pack4 add = Load4(dy + positions[j] * width + column);
        for (int k = 0; k < 4; ++k) sum[k] += add[k];
      }
      Store4(sum, to);
    } else {
      float sum = *to;
      for (int64_t j = first; j < n && ids[j] == id; ++j) sum += dy[positions[j] * width + column];
      *to = sum;
    }
  }
};

}  // namespace muster::gpu
