// Softmax, cross entropy and its gradient; an index is a sample.
//
// In float64 like the CPU's: a batch has few samples, and few classes. See kernel.h for what a
// kernel is, device_ops.h for what is computed.
#pragma once

#include <cmath>

#include "kernels/cuda/kernel.h"

namespace muster::gpu {

struct SoftmaxCrossEntropyKernel {
  int64_t classes, batch;
  const float* x;
  const int32_t* label;
  float* loss;
  float* dx;  // may be x; or null

  MUSTER_KERNEL void operator()(int64_t s) const {
    const float* row = x + s * classes;
    double max = row[0];
    for (int64_t c = 1; c < classes; ++c) max = row[c] > max ? row[c] : max;
    double sum = 0;
    MUSTER_ROLLED
    for (int64_t c = 0; c < classes; ++c) sum += exp(row[c] - max);
    loss[s] = static_cast<float>(log(sum) + max - row[label[s]]);
    if (dx == nullptr) return;
    MUSTER_ROLLED
    for (int64_t c = 0; c < classes; ++c) {
      const double target = c == label[s] ? 1 : 0;
      dx[s * classes + c] =
          static_cast<float>((exp(row[c] - max) / sum - target) / static_cast<double>(batch));
    }
  }
};

}  // namespace muster::gpu
