// Kernels of the codec int8: the same bytes and residuals as kernels/codecs/int8.cc, which says the
// formulas; four elements an index.
//
// A block's scale needs its largest magnitude before an element of it can be encoded. So one pass
// writes the largest exponent of each four elements, a byte, and the next takes the maximum of its
// block's 32 bytes in each index: they lie together, and all the neighbours read the same. The sum
// gradient + residual is made twice, which moves as many bytes as writing and reading it would.
//
// All arrays but the exponents are aligned to 16 bytes. See kernel.h for what a kernel is,
// codec_ops.h for what the kernels of a codec are.
#pragma once

#include <bit>
#include <cstddef>

#include "kernels/codec.h"
#include "kernels/cuda/four.h"
#include "kernels/cuda/kernel.h"

namespace muster::gpu {

inline constexpr int64_t kInt8Block = 128;             // elements
inline constexpr int64_t kInt8Fours = kInt8Block / 4;  // indices of a block

MUSTER_KERNEL float Int8Scale(uint32_t exponent) { return std::bit_cast<float>(exponent << 23); }

// largest[i] = the largest biased exponent of gradient + residual in the four of index i, over
// kInt8Fours indices for each block.
struct Int8ExponentKernel {
  int64_t n;
  const float* gradient;
  const float* residual;
  uint8_t* largest;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int count = CountOfFour(4 * i, n);
    const Pack4 g = LoadFour(gradient + 4 * i, count), r = LoadFour(residual + 4 * i, count);
    uint32_t exponent = 0;
    for (int k = 0; k < 4; ++k) {
      const uint32_t e = std::bit_cast<uint32_t>(g[k] + r[k]) >> 23 & 0xff;
      exponent = e > exponent ? e : exponent;
    }
    largest[i] = static_cast<uint8_t>(exponent);
  }
};

// Over CeilDiv(n, 4) indices.
struct Int8EncodeKernel {
  int64_t n;
  const float* gradient;
  float* residual;
  const uint8_t* largest;
  uint8_t* out;
  uint8_t* exponents;  // of the blocks, at any address

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int count = CountOfFour(4 * i, n);
    const Pack4 g = LoadFour(gradient + 4 * i, count);
    Pack4 x = LoadFour(residual + 4 * i, count);
    for (int k = 0; k < 4; ++k) x[k] = g[k] + x[k];
    const uint32_t exponent = Exponent(i / kInt8Fours);
    if (i % kInt8Fours == 0) exponents[i / kInt8Fours] = static_cast<uint8_t>(exponent);
    uint32_t bytes = 0;
    if (exponent != 255) {
      const float scale = Int8Scale(exponent), inverse = Int8Scale(254 - exponent);
      for (int k = 0; k < 4; ++k) {
        // The ulp of 1.5 * 2^23 is 1, so the low bits of the sum are x / s, rounded.
        constexpr float kMagic = 12582912.0f;
        const auto sum = std::bit_cast<int32_t>(x[k] * inverse + kMagic);
        const int rounded = sum - std::bit_cast<int32_t>(kMagic);
        const int q = rounded > 127 ? 127 : rounded < -127 ? -127 : rounded;
        bytes |= static_cast<uint32_t>(q & 0xff) << (8 * k);
        x[k] = x[k] - static_cast<float>(q) * scale;
      }
    }
    StoreFour(x, count, residual + 4 * i);
    if (count == 4) {
      *reinterpret_cast<uint32_t*>(out + 4 * i) = bytes;
    } else {
      for (int k = 0; k < 3; ++k) {
        if (k < count) out[4 * i + k] = static_cast<uint8_t>(bytes >> (8 * k));
      }
    }
  }

 private:
  // The biased exponent of the block's scale; 255: not finite.
  MUSTER_KERNEL uint32_t Exponent(int64_t block) const {
    const auto* packs = reinterpret_cast<const Pack<uint32_t>*>(largest + block * kInt8Fours);
    uint32_t max = 0;
    for (int p = 0; p < kInt8Fours / 16; ++p) {
      const Pack<uint32_t> pack = packs[p];
      for (int k = 0; k < 4; ++k) {
        for (int byte = 0; byte < 4; ++byte) {
          const uint32_t e = pack[k] >> (8 * byte) & 0xff;
          max = e > max ? e : max;
        }
      }
    }
    return max == 255 ? 255 : max > 7 ? max - 6 : 1;
  }
};

// Over CeilDiv(n, 4) indices.
struct Int8DecodeKernel {
  int64_t n;
  const uint8_t* encoded;
  const uint8_t* exponents;
  float* out;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int count = CountOfFour(4 * i, n);
    const float scale = Int8Scale(exponents[i / kInt8Fours]);
    uint32_t bytes = 0;
    if (count == 4) {
      bytes = *reinterpret_cast<const uint32_t*>(encoded + 4 * i);
    } else {
      for (int k = 0; k < 3; ++k) {
        if (k < count) bytes |= static_cast<uint32_t>(encoded[4 * i + k]) << (8 * k);
      }
    }
    Pack4 x;
    for (int k = 0; k < 4; ++k) {
      x[k] = static_cast<float>(static_cast<int8_t>(bytes >> (8 * k) & 0xff)) * scale;
    }
    StoreFour(x, count, out + 4 * i);
  }
};

struct Int8Kernels {
  static int64_t ScratchBytes(int64_t n) { return CeilDiv(n, kInt8Block) * kInt8Fours; }

  template <class Run>
  static void Encode(const Run& run, const Codec& /*codec*/, int64_t n, const float* gradient,
                     float* residual, std::byte* out, void* scratch) {
    auto* bytes = reinterpret_cast<uint8_t*>(out);
    auto* largest = static_cast<uint8_t*>(scratch);
    run(CeilDiv(n, kInt8Block) * kInt8Fours, Int8ExponentKernel{n, gradient, residual, largest});
    run(CeilDiv(n, 4), Int8EncodeKernel{n, gradient, residual, largest, bytes, bytes + n});
  }

  template <class Run>
  static void Decode(const Run& run, const Codec& /*codec*/, int64_t n, const std::byte* encoded,
                     float* out) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(encoded);
    run(CeilDiv(n, 4), Int8DecodeKernel{n, bytes, bytes + n, out});
  }
};

}  // namespace muster::gpu
