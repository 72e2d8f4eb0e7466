// Kernels of the codecs fp16 and bf16: the same bytes as kernels/codecs/{fp16,bf16}.cc, which say
// the formulas; in integers, four elements an index.
//
// The float32 array is aligned to 16 bytes, the encoding to 8. See kernel.h for what a kernel is,
// codec_ops.h for what the kernels of a codec are.
#pragma once

#include <bit>
#include <cstddef>

#include "kernels/codec.h"
#include "kernels/cuda/four.h"
#include "kernels/cuda/kernel.h"

namespace muster::gpu {

struct Bf16Format {
  MUSTER_KERNEL static uint16_t Encode(float x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
  MUSTER_KERNEL static float Decode(uint16_t encoded) {
    return std::bit_cast<float>(static_cast<uint32_t>(encoded) << 16);
  }
};

struct Fp16Format {
  static constexpr uint32_t kRebias = 112 << 23;  // between the two formats' exponents
  static constexpr uint32_t kHalf = 0x3f000000;   // 0.5

  MUSTER_KERNEL static uint16_t Encode(float x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    const uint32_t a = bits & 0x7fffffff;
    uint32_t h = (a + 0xfff - kRebias + (a >> 13 & 1)) >> 13;
    if (h > 0x7c00) h = 0x7c00;
    if (a < 0x38800000) h = std::bit_cast<uint32_t>(std::bit_cast<float>(a) + 0.5f) - kHalf;
    if (a > 0x7f800000) h = 0x7e00;
    return static_cast<uint16_t>(h | (bits >> 16 & 0x8000));
  }
  MUSTER_KERNEL static float Decode(uint16_t encoded) {
    const uint32_t a = encoded & 0x7fff;
    // The largest exponent stands for infinity and NaN in either format.
    const uint32_t normal = (a << 13) + (a < 0x7c00 ? kRebias : 2 * kRebias);
    const auto tiny = std::bit_cast<uint32_t>(std::bit_cast<float>(a | kHalf) - 0.5f);
    const uint32_t sign = static_cast<uint32_t>(encoded & 0x8000) << 16;
    return std::bit_cast<float>((a < 0x400 ? tiny : normal) | sign);
  }
};

struct alignas(8) FourHalves {
  uint16_t v[4];
};

// Over CeilDiv(n, 4) indices.
template <class Format>
struct HalfEncodeKernel {
  int64_t n;
  const float* x;
  uint16_t* out;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int count = CountOfFour(4 * i, n);
    const Pack4 from = LoadFour(x + 4 * i, count);
    FourHalves to;
    for (int k = 0; k < 4; ++k) to.v[k] = Format::Encode(from[k]);
    if (count == 4) {
      *reinterpret_cast<FourHalves*>(out + 4 * i) = to;
    } else {
      for (int k = 0; k < 3; ++k) {
        if (k < count) out[4 * i + k] = to.v[k];
      }
    }
  }
};

// Over CeilDiv(n, 4) indices.
template <class Format>
struct HalfDecodeKernel {
  int64_t n;
  const uint16_t* encoded;
  float* out;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int count = CountOfFour(4 * i, n);
    FourHalves from = {};
    if (count == 4) {
      from = *reinterpret_cast<const FourHalves*>(encoded + 4 * i);
    } else {
      for (int k = 0; k < 3; ++k) {
        if (k < count) from.v[k] = encoded[4 * i + k];
      }
    }
    Pack4 to;
    for (int k = 0; k < 4; ++k) to[k] = Format::Decode(from.v[k]);
    StoreFour(to, count, out + 4 * i);
  }
};

template <class Format>
struct HalfKernels {
  static int64_t ScratchBytes(int64_t /*n*/) { return 0; }

  template <class Run>
  static void Encode(const Run& run, const Codec& /*codec*/, int64_t n, const float* gradient,
                     float* /*residual*/, std::byte* out, void* /*scratch*/) {
    auto* halves = reinterpret_cast<uint16_t*>(out);
    run(CeilDiv(n, 4), HalfEncodeKernel<Format>{n, gradient, halves});
  }

  template <class Run>
  static void Decode(const Run& run, const Codec& /*codec*/, int64_t n, const std::byte* encoded,
                     float* out) {
    const auto* halves = reinterpret_cast<const uint16_t*>(encoded);
    run(CeilDiv(n, 4), HalfDecodeKernel<Format>{n, halves, out});
  }
};

}  // namespace muster::gpu
