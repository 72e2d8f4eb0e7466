// int8: blocks of 128 elements share a scale, a power of two; one byte an element and one a block.
//
//   s = 2^(floor(log2 max|x|) - 6), at least 2^-126       max|x| / s lies in [64, 128)
//   q = clamp(round(x / s), -127, 127)                    to nearest, ties to even
//   decoded = q * s
//   residual = x - q * s
//
// Encoding: all q, then the blocks' exponents of s, biased by 127; 255 where a block holds a value
// that is not finite.
//
// The residual is exact: |x| < 128 s, so ulp(x) is a power of two below s, and x - q * s a multiple
// of ulp(x). It is not larger than |x|: it is x where q = 0, at most s / 2 <= |x| where q was
// rounded, below s where q was clamped. Such a number is a float32.
//
// Source: the MXINT8 format of the OCP Microscaling Formats specification, version 1.0, 2023, with
// larger blocks; the residual as for 1bit.
#include <algorithm>
#include <bit>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/codecs/int8.cc"
#include <hwy/foreach_target.h>
// foreach_target.h comes before what it includes again for each target.
#include <fmt/format.h>
#include <hwy/highway.h>

#include "kernels/codecs/codecs.h"

#ifndef MUSTER_KERNELS_CODECS_INT8_ONCE_
#define MUSTER_KERNELS_CODECS_INT8_ONCE_
namespace muster::int8 {
constexpr int64_t kBlock = 128;  // elements
constexpr uint8_t kLeastExponent = 1, kMostExponent = 248, kNotFinite = 255;
inline float ScaleOf(int exponent) {
  return std::bit_cast<float>(static_cast<uint32_t>(exponent) << 23);
}
}  // namespace muster::int8
#endif

HWY_BEFORE_NAMESPACE();
namespace muster::int8::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using DI = hn::RebindToSigned<D>;
using DB = hn::Rebind<int8_t, D>;
constexpr int64_t kLanes = hn::MaxLanes(D());

// Encodes one block and returns its exponent.
HWY_INLINE uint8_t EncodeBlock(const float* gradient, float* residual, int8_t* out) {
  const D d;
  const DI di;
  auto max = hn::Zero(di);
  for (int64_t i = 0; i < kBlock; i += kLanes) {
    const auto x = hn::Add(hn::LoadU(d, gradient + i), hn::LoadU(d, residual + i));
    hn::StoreU(x, d, residual + i);
    max = hn::Max(max, hn::And(hn::BitCast(di, x), hn::Set(di, 0x7fffffff)));
  }
  const int largest = hn::GetLane(hn::MaxOfLanes(di, max)) >> 23;  // biased exponent
  if (largest == 255) {
    std::memset(out, 0, kBlock);
    return kNotFinite;
  }
  const int exponent = std::max(largest - 6, int{kLeastExponent});
  const auto scale = hn::Set(d, ScaleOf(exponent)), inverse = hn::Set(d, ScaleOf(254 - exponent));
  // The ulp of 1.5 * 2^23 is 1, so the low bits of the sum are x / s, rounded.
  const auto magic = hn::Set(d, 12582912.0f);
  for (int64_t i = 0; i < kBlock; i += kLanes) {
    const auto x = hn::LoadU(d, residual + i);
    const auto sum = hn::Add(hn::Mul(x, inverse), magic);
    const auto rounded = hn::Sub(hn::BitCast(di, sum), hn::BitCast(di, magic));
    const auto q = hn::Max(hn::Min(rounded, hn::Set(di, 127)), hn::Set(di, -127));
    hn::StoreU(hn::DemoteTo(DB(), q), DB(), out + i);
    hn::StoreU(hn::Sub(x, hn::Mul(hn::ConvertTo(d, q), scale)), d, residual + i);
  }
  return static_cast<uint8_t>(exponent);
}

HWY_INLINE void DecodeBlock(const int8_t* encoded, uint8_t exponent, float* out) {
  const D d;
  const auto scale = hn::Set(d, ScaleOf(exponent));
  for (int64_t i = 0; i < kBlock; i += kLanes) {
    const auto q = hn::PromoteTo(DI(), hn::LoadU(DB(), encoded + i));
    hn::StoreU(hn::Mul(hn::ConvertTo(d, q), scale), d, out + i);
  }
}

void EncodeAll(const float* gradient, float* residual, int64_t n, std::byte* bytes) {
  int8_t* out = reinterpret_cast<int8_t*>(bytes);
  uint8_t* exponent = reinterpret_cast<uint8_t*>(bytes + n);
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) {
    *exponent++ = EncodeBlock(gradient + i, residual + i, out + i);
  }
  if (i == n) return;
  const size_t rest = static_cast<size_t>(n - i);
  float rest_gradient[kBlock] = {}, rest_residual[kBlock] = {};
  int8_t encoded[kBlock];
  std::memcpy(rest_gradient, gradient + i, rest * sizeof(float));
  std::memcpy(rest_residual, residual + i, rest * sizeof(float));
  *exponent = EncodeBlock(rest_gradient, rest_residual, encoded);
  std::memcpy(residual + i, rest_residual, rest * sizeof(float));
  std::memcpy(out + i, encoded, rest);
}

void DecodeAll(const std::byte* bytes, const std::byte* exponents, float* out, int64_t n) {
  const int8_t* encoded = reinterpret_cast<const int8_t*>(bytes);
  const uint8_t* exponent = reinterpret_cast<const uint8_t*>(exponents);
  int64_t i = 0;
  for (; i + kBlock <= n; i += kBlock) DecodeBlock(encoded + i, *exponent++, out + i);
  if (i == n) return;
  const size_t rest = static_cast<size_t>(n - i);
  int8_t rest_encoded[kBlock] = {};
  float decoded[kBlock];
  std::memcpy(rest_encoded, encoded + i, rest);
  DecodeBlock(rest_encoded, *exponent, decoded);
  std::memcpy(out + i, decoded, rest * sizeof(float));
}

}  // namespace muster::int8::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace muster {
namespace int8 {

HWY_EXPORT(EncodeAll);
HWY_EXPORT(DecodeAll);

class Int8 final : public Codec {
 public:
  const char* name() const override { return "int8"; }
  bool has_residual() const override { return true; }
  size_t EncodedSize(int64_t n) const override { return static_cast<size_t>(n + Blocks(n)); }

 private:
  static int64_t Blocks(int64_t n) { return (n + kBlock - 1) / kBlock; }

  void EncodeArray(std::span<const float> gradient, float* residual,
                   std::byte* out) const override {
    HWY_DYNAMIC_DISPATCH(EncodeAll)(gradient.data(), residual, std::ssize(gradient), out);
  }
  absl::Status CheckContent(const std::byte* encoded, int64_t n) const override {
    for (int64_t block = 0; block < Blocks(n); ++block) {
      const int exponent = std::to_integer<int>(encoded[n + block]);
      if (exponent >= kLeastExponent && exponent <= kMostExponent) continue;
      return absl::InvalidArgumentError(
          exponent == kNotFinite
              ? fmt::format("int8: block {} holds a value that is not finite", block)
              : fmt::format("int8: block {} has the exponent {}, beyond float32", block, exponent));
    }
    return absl::OkStatus();
  }
  void DecodeRange(const std::byte* encoded, int64_t n, int64_t begin,
                   std::span<float> out) const override {
    HWY_DYNAMIC_DISPATCH(DecodeAll)
    (encoded + begin, encoded + n + begin / kBlock, out.data(), std::ssize(out));
  }
};

}  // namespace int8

CodecPtr MakeInt8() { return std::make_shared<const int8::Int8>(); }

}  // namespace muster
#endif  // HWY_ONCE
