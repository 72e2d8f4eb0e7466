// fp16: each element as an IEEE 754 binary16, rounded to nearest, ties to even; 2 bytes.
//
//   |x| >= 2^-14:  encoded = (bits - (112 << 23) + 0xfff + (bit 13 of bits)) >> 13,
//                  at most infinity
//   |x| <  2^-14:  encoded = |x| / 2^-24 rounded: the low bits of |x| + 0.5,
//                  whose ulp is 2^-24
//   NaN:           encoded = 0x7e00
//
// and the sign in bit 15. What rounds beyond 65504 becomes infinite, what is at most 2^-25 becomes
// 0. No residual. Sources: IEEE 754-2019, binary16; for gradients Micikevicius et al., "Mixed
// Precision Training", 2018. By the CPU's instructions where there are such, but for NaN, of
// which they keep more; else in integers.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/codecs/fp16.cc"
#include <hwy/foreach_target.h>
// foreach_target.h comes before what it includes again for each target.
#include <hwy/highway.h>

#include "kernels/codecs/codecs.h"
#include "kernels/codecs/half-inl.h"

HWY_BEFORE_NAMESPACE();
namespace muster::fp16::HWY_NAMESPACE {

using namespace half::HWY_NAMESPACE;

constexpr int32_t kRebias = 112 << 23;        // between the two formats' exponents
constexpr int32_t kLeastNormal = 0x38800000;  // 2^-14
constexpr int32_t kHalf = 0x3f000000;         // 0.5
constexpr int32_t kInfinity = 0x7c00;         // of binary16

#if HWY_TARGET <= HWY_AVX2 && !defined(HWY_DISABLE_F16C)

struct Format {
  static HWY_INLINE VH Encode(V x) {
    const hn::Rebind<hwy::float16_t, D> df16;
    const auto h = hn::BitCast(DH(), hn::DemoteTo(df16, x));
    if (HWY_LIKELY(hn::AllFalse(D(), hn::IsNaN(x)))) return h;
    const auto sign = hn::And(h, hn::Set(DH(), uint16_t{0x8000}));
    const auto nan = hn::Or(sign, hn::Set(DH(), uint16_t{0x7e00}));
    const auto magnitude = hn::And(h, hn::Set(DH(), uint16_t{0x7fff}));
    const auto is_nan = hn::Gt(magnitude, hn::Set(DH(), static_cast<uint16_t>(kInfinity)));
    return hn::IfThenElse(is_nan, nan, h);
  }
  static HWY_INLINE V Decode(VH encoded) {
    const hn::Rebind<hwy::float16_t, D> df16;
    return hn::PromoteTo(D(), hn::BitCast(df16, encoded));
  }
};

#else

struct Format {
  static HWY_INLINE VH Encode(V x) {
    const D d;
    const DI di;
    const auto bits = hn::BitCast(di, x);
    const auto a = hn::And(bits, hn::Set(di, 0x7fffffff));
    const auto odd = hn::And(hn::ShiftRight<13>(a), hn::Set(di, 1));
    const auto rounded = hn::ShiftRight<13>(hn::Add(hn::Add(a, hn::Set(di, 0xfff - kRebias)), odd));
    const auto half = hn::Set(di, kHalf);
    const auto tiny =
        hn::Sub(hn::BitCast(di, hn::Add(hn::BitCast(d, a), hn::BitCast(d, half))), half);
    auto h = hn::Min(rounded, hn::Set(di, kInfinity));
    h = hn::IfThenElse(hn::Lt(a, hn::Set(di, kLeastNormal)), tiny, h);
    h = hn::IfThenElse(hn::Gt(a, hn::Set(di, 0x7f800000)), hn::Set(di, 0x7e00), h);
    const auto sign =
        hn::And(hn::BitCast(di, hn::ShiftRight<16>(hn::BitCast(DU(), bits))), hn::Set(di, 0x8000));
    return hn::DemoteTo(DH(), hn::Or(h, sign));
  }
  static HWY_INLINE V Decode(VH encoded) {
    const D d;
    const DI di;
    const auto h = hn::BitCast(di, hn::PromoteTo(DU(), encoded));
    const auto a = hn::And(h, hn::Set(di, 0x7fff));
    const auto half = hn::Set(di, kHalf);
    const auto tiny =
        hn::BitCast(di, hn::Sub(hn::BitCast(d, hn::Or(a, half)), hn::BitCast(d, half)));
    // The largest exponent stands for infinity and NaN in either format.
    const auto rebias = hn::IfThenElse(hn::Lt(a, hn::Set(di, kInfinity)), hn::Set(di, kRebias),
                                       hn::Set(di, 2 * kRebias));
    const auto normal = hn::Add(hn::ShiftLeft<13>(a), rebias);
    const auto value = hn::IfThenElse(hn::Lt(a, hn::Set(di, 0x400)), tiny, normal);
    const auto sign = hn::ShiftLeft<16>(hn::And(h, hn::Set(di, 0x8000)));
    return hn::BitCast(d, hn::Or(value, sign));
  }
};

#endif

void EncodeAll(const float* x, int64_t n, std::byte* out) {
  half::HWY_NAMESPACE::Encode<Format>(x, n, out);
}
void DecodeAll(const std::byte* encoded, float* out, int64_t n) {
  half::HWY_NAMESPACE::Decode<Format>(encoded, out, n);
}

}  // namespace muster::fp16::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace muster {
namespace fp16 {

HWY_EXPORT(EncodeAll);
HWY_EXPORT(DecodeAll);

class Fp16 final : public Codec {
 public:
  const char* name() const override { return "fp16"; }
  bool has_residual() const override { return false; }
  size_t EncodedSize(int64_t n) const override { return static_cast<size_t>(n) * 2; }

 private:
  void EncodeArray(std::span<const float> gradient, float* /*residual*/,
                   std::byte* out) const override {
    HWY_DYNAMIC_DISPATCH(EncodeAll)(gradient.data(), std::ssize(gradient), out);
  }
  absl::Status CheckContent(const std::byte* /*encoded*/, int64_t /*n*/) const override {
    return absl::OkStatus();
  }
  void DecodeRange(const std::byte* encoded, int64_t /*n*/, int64_t begin,
                   std::span<float> out) const override {
    HWY_DYNAMIC_DISPATCH(DecodeAll)(encoded + begin * 2, out.data(), std::ssize(out));
  }
};

}  // namespace fp16

CodecPtr MakeFp16() { return std::make_shared<const fp16::Fp16>(); }

}  // namespace muster
#endif  // HWY_ONCE
