// GpuOptions: how a GPU computes.
//
// Values, thread-compatible.
#pragma once

namespace muster {

// Of products and convolutions; everything else is float32, weights and gradients too.
enum class GpuPrecision {
  kFloat32,  // as the CPU
  kTf32,     // factors rounded to 10 bits of mantissa, sums in float32
};

struct GpuOptions {
  int index = 0;  // which of the host's GPUs
  GpuPrecision precision = GpuPrecision::kTf32;
};

}  // namespace muster
