// The matrix that rank-constrained filters stand for, and its gradients; an index is an element of
// what is written, and sums run in the CPU's order.
//
// See kernel.h for what a kernel is, device_ops.h for what is computed.
#pragma once

#include <cmath>

#include "kernels/cuda/kernel.h"

namespace muster::gpu {

struct SvdfArgs {
  int frames, features, units, rank;
};

// matrix [frames * features, units]
struct SvdfExpandKernel {
  SvdfArgs s;
  const float* feature;
  const float* time;
  float* matrix;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i), units = static_cast<uint32_t>(s.units);
    const uint32_t unit = at % units, row = at / units;
    const auto features = static_cast<uint32_t>(s.features);
    const int64_t filters = int64_t{s.units} * s.rank;
    const float* f = feature + row % features * filters + int64_t{unit} * s.rank;
    const float* t = time + row / features * filters + int64_t{unit} * s.rank;
    float sum = t[0] * f[0];
    for (int r = 1; r < s.rank; ++r) sum = fmaf(t[r], f[r], sum);
    matrix[i] = sum;
  }
};

// dfeature [features, units * rank]
struct SvdfFeatureGradientKernel {
  SvdfArgs s;
  const float* time;
  const float* dmatrix;
  float* dfeature;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i), filters = static_cast<uint32_t>(s.units * s.rank);
    const uint32_t filter = at % filters, feature = at / filters;
    const float* d = dmatrix + int64_t{feature} * s.units + filter / static_cast<uint32_t>(s.rank);
    float sum = 0;
    for (int t = 0; t < s.frames; ++t) {
      sum = fmaf(d[int64_t{t} * s.features * s.units], time[int64_t{t} * filters + filter], sum);
    }
    dfeature[i] = sum;
  }
};

// dtime [frames, units * rank]
struct SvdfTimeGradientKernel {
  SvdfArgs s;
  const float* feature;
  const float* dmatrix;
  float* dtime;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i), filters = static_cast<uint32_t>(s.units * s.rank);
    const uint32_t filter = at % filters, frame = at / filters;
    const float* d =
        dmatrix + int64_t{frame} * s.features * s.units + filter / static_cast<uint32_t>(s.rank);
    float sum = 0;
    for (int f = 0; f < s.features; ++f) {
      sum = fmaf(d[int64_t{f} * s.units], feature[int64_t{f} * filters + filter], sum);
    }
    dtime[i] = sum;
  }
};

}  // namespace muster::gpu
