// 1bit: the signs, and for each block of 512 elements one scale, the mean of their magnitudes.
//
//   s = mean |x| over the block, as bf16
//   decoded = s with the sign of x
//   residual = x - decoded
//
// Encoding: the signs, one bit an element (1: negative), unused bits of the last byte 0; then the
// scales, two bytes each, infinite or NaN where a block holds a value that is not finite or its sum
// is beyond float32.
//
// The residual is exact where |x| >= s / 2: up to 2 s because numbers within a factor of two of
// each other always subtract exactly (Sterbenz), above because |x| <= 513 s, and all eight bits of
// s lie within the 24 that begin there. It is exact, too, where x is a multiple of ulp(s), s as
// float32. Other inputs are smaller than s / 2 and lose what lies below: at most ulp(s) / 2 <=
// 2^-24 s, since no float32 holds both a number near s and their last bits.
//
// The sum has a fixed order, 16 partial sums and a tree, so that all CPUs agree.
//
// Sources: Seide et al., "1-Bit Stochastic Gradient Descent and its Application to Data-Parallel
// Distributed Training of Speech DNNs", 2014, for signs with error feedback; Karimireddy et al.,
// "Error Feedback Fixes SignSGD and other Gradient Compression Schemes", 2019, for the scale.
#include <bit>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/codecs/one_bit.cc"
#include <hwy/foreach_target.h>
// foreach_target.h comes before what it includes again for each target.
#include <fmt/format.h>
#include <hwy/highway.h>

#include "kernels/codecs/codecs.h"

#ifndef MUSTER_KERNELS_CODECS_ONE_BIT_ONCE_
#define MUSTER_KERNELS_CODECS_ONE_BIT_ONCE_
namespace muster::one_bit {
constexpr int64_t kBlock = 512;  // elements
constexpr int64_t kGroup = 16;   // elements whose signs are put together; divides a block
constexpr int64_t kSignBytes = kBlock / 8, kScaleBytes = 2;
}  // namespace muster::one_bit
#endif

HWY_BEFORE_NAMESPACE();
namespace muster::one_bit::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, kGroup>;
using DI = hn::RebindToSigned<D>;
using V = hn::Vec<D>;
constexpr int64_t kLanes = hn::MaxLanes(D());

// sums[0] + … + sums[15] divided by `count`, as the upper half of a float32.
HWY_INLINE uint16_t MeanAsBf16(float* sums, int64_t count) {
  for (int64_t width = kGroup / 2; width > 0; width /= 2) {
    for (int64_t i = 0; i < width; ++i) sums[i] += sums[i + width];
  }
  const uint32_t bits = std::bit_cast<uint32_t>(sums[0] / static_cast<float>(count));
  if (bits > 0x7f800000) return 0x7fc0;  // NaN
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

HWY_INLINE float ScaleOf(uint16_t bf16) {
  return std::bit_cast<float>(static_cast<uint32_t>(bf16) << 16);
}

// Encodes one block, of which the first `count` elements count and the rest are 0. Returns its
// scale.
HWY_INLINE uint16_t EncodeBlock(const float* gradient, float* residual, int64_t count,
                                std::byte* signs) {
  const D d;
  const DI di;
  V sum[kGroup / kLanes];
  for (V& part : sum) part = hn::Zero(d);
  for (int64_t i = 0; i < kBlock; i += kGroup) {
    for (int64_t j = 0; j < kGroup; j += kLanes) {
      const V x = hn::Add(hn::LoadU(d, gradient + i + j), hn::LoadU(d, residual + i + j));
      hn::StoreU(x, d, residual + i + j);
      sum[j / kLanes] = hn::Add(sum[j / kLanes], hn::Abs(x));
    }
  }
  HWY_ALIGN float sums[kGroup];
  for (int64_t j = 0; j < kGroup; j += kLanes) hn::Store(sum[j / kLanes], d, sums + j);
  const uint16_t bf16 = MeanAsBf16(sums, count);
  const V scale = hn::Set(d, ScaleOf(bf16));
  for (int64_t i = 0; i < kBlock; i += kGroup) {
    uint32_t group = 0;
    for (int64_t j = 0; j < kGroup; j += kLanes) {
      const V x = hn::LoadU(d, residual + i + j);
      uint8_t bits[8] = {};
      hn::StoreMaskBits(di, hn::Lt(hn::BitCast(di, x), hn::Zero(di)), bits);
      group |= static_cast<uint32_t>(bits[0] | bits[1] << 8) << j;
      hn::StoreU(hn::Sub(x, hn::CopySignToAbs(scale, x)), d, residual + i + j);
    }
    const auto two_bytes = static_cast<uint16_t>(group);
    std::memcpy(signs + i / 8, &two_bytes, 2);
  }
  return bf16;
}

HWY_INLINE void DecodeBlock(const std::byte* signs, uint16_t bf16, float* out) {
  const D d;
  const V plus = hn::Set(d, ScaleOf(bf16)), minus = hn::Neg(plus);
  for (int64_t i = 0; i < kBlock; i += kGroup) {
    uint16_t group;
    std::memcpy(&group, signs + i / 8, 2);
    for (int64_t j = 0; j < kGroup; j += kLanes) {
      const uint64_t word = static_cast<uint64_t>(group) >> j;
      uint8_t bits[8];
      std::memcpy(bits, &word, 8);
      hn::StoreU(hn::IfThenElse(hn::LoadMaskBits(d, bits), minus, plus), d, out + i + j);
    }
  }
}

void EncodeAll(const float* gradient, float* residual, int64_t n, std::byte* out) {
  std::byte* scales = out + (n + 7) / 8;
  for (int64_t i = 0; i < n; i += kBlock, out += kSignBytes, scales += kScaleBytes) {
    uint16_t scale;
    if (i + kBlock <= n) {
      scale = EncodeBlock(gradient + i, residual + i, kBlock, out);
    } else {
      const size_t rest = static_cast<size_t>(n - i);
      float rest_gradient[kBlock] = {}, rest_residual[kBlock] = {};
      std::byte signs[kSignBytes];
      std::memcpy(rest_gradient, gradient + i, rest * sizeof(float));
      std::memcpy(rest_residual, residual + i, rest * sizeof(float));
      scale = EncodeBlock(rest_gradient, rest_residual, n - i, signs);
      std::memcpy(residual + i, rest_residual, rest * sizeof(float));
      std::memcpy(out, signs, (rest + 7) / 8);
    }
    std::memcpy(scales, &scale, kScaleBytes);
  }
}

void DecodeAll(const std::byte* signs, const std::byte* scales, float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kBlock, signs += kSignBytes, scales += kScaleBytes) {
    uint16_t scale;
    std::memcpy(&scale, scales, kScaleBytes);
    if (i + kBlock <= n) {
      DecodeBlock(signs, scale, out + i);
    } else {
      const size_t rest = static_cast<size_t>(n - i);
      std::byte rest_signs[kSignBytes] = {};
      float decoded[kBlock];
      std::memcpy(rest_signs, signs, (rest + 7) / 8);
      DecodeBlock(rest_signs, scale, decoded);
      std::memcpy(out + i, decoded, rest * sizeof(float));
    }
  }
}

}  // namespace muster::one_bit::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace muster {
namespace one_bit {

HWY_EXPORT(EncodeAll);
HWY_EXPORT(DecodeAll);

class OneBit final : public Codec {
 public:
  const char* name() const override { return "1bit"; }
  bool has_residual() const override { return true; }
  size_t EncodedSize(int64_t n) const override {
    return static_cast<size_t>(SignBytes(n) + Blocks(n) * kScaleBytes);
  }

 private:
  static int64_t SignBytes(int64_t n) { return (n + 7) / 8; }
  static int64_t Blocks(int64_t n) { return (n + kBlock - 1) / kBlock; }

  void EncodeArray(std::span<const float> gradient, float* residual,
                   std::byte* out) const override {
    HWY_DYNAMIC_DISPATCH(EncodeAll)(gradient.data(), residual, std::ssize(gradient), out);
  }
  absl::Status CheckContent(const std::byte* encoded, int64_t n) const override {
    for (int64_t block = 0; block < Blocks(n); ++block) {
      uint16_t scale;
      std::memcpy(&scale, encoded + SignBytes(n) + block * kScaleBytes, kScaleBytes);
      if (scale < 0x7f80) continue;
      return absl::InvalidArgumentError(
          scale < 0x8000 ? fmt::format("1bit: block {} holds a value that is not finite", block)
                         : fmt::format("1bit: the scale of block {} is negative", block));
    }
    return absl::OkStatus();
  }
  void DecodeRange(const std::byte* encoded, int64_t n, int64_t begin,
                   std::span<float> out) const override {
    HWY_DYNAMIC_DISPATCH(DecodeAll)
    (encoded + begin / 8, encoded + SignBytes(n) + begin / kBlock * kScaleBytes, out.data(),
     std::ssize(out));
  }
};

}  // namespace one_bit

CodecPtr MakeOneBit() { return std::make_shared<const one_bit::OneBit>(); }

}  // namespace muster
#endif  // HWY_ONCE
