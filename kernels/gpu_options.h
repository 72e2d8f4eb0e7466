// GpuOptions: how a GPU computes.
//
// Values, thread-compatible.
#pragma once

#include <string_view>

namespace muster {

// Of products and convolutions; what is stored is float32: weights, activations, gradients.
enum class GpuPrecision {
  kFloat32,  // as the CPU
  kTf32,     // factors rounded to 10 bits of mantissa, sums in float32
  // Factors rounded to 7 bits of mantissa, to the nearest, ties to even, sums in float32; what a
  // convolution by cuDNN gives is rounded as its factors are. From compute 8.0 on.
  kBf16,
};

// As training.precision names it: "TF32".
constexpr std::string_view NameOf(GpuPrecision precision) {
  switch (precision) {
    case GpuPrecision::kFloat32:
      return "FP32";
    case GpuPrecision::kTf32:
      return "TF32";
    case GpuPrecision::kBf16:
      return "BF16";
  }
  return "";
}

struct GpuOptions {
  int index = 0;  // which of the host's GPUs
  GpuPrecision precision = GpuPrecision::kTf32;
  bool graphs = true;  // its streams capture work (stream.h)
};

}  // namespace muster
