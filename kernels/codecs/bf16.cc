// bf16: each element as the upper half of its float32, rounded to nearest, ties to even; 2 bytes.
//
//   encoded = (bits + 0x7fff + (bit 16 of bits)) >> 16        NaN: the upper half, made quiet
//   decoded = encoded << 16
//
// The exponents are float32's, so nothing underflows, and only what rounds beyond the largest bf16
// becomes infinite. No residual. Source: bfloat16 as Kalamkar et al., "A Study of BFLOAT16 for Deep
// Learning Training", 2019, define it.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/codecs/bf16.cc"
#include <hwy/foreach_target.h>
// foreach_target.h comes before what it includes again for each target.
#include <hwy/highway.h>

#include "kernels/codecs/codecs.h"
#include "kernels/codecs/half-inl.h"

HWY_BEFORE_NAMESPACE();
namespace muster::bf16::HWY_NAMESPACE {

using namespace half::HWY_NAMESPACE;

struct Format {
  static HWY_INLINE VH Encode(V x) {
    const DU du;
    const DI di;
    const auto bits = hn::BitCast(du, x);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
    const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7fff)), odd));
    if (HWY_LIKELY(hn::AllFalse(D(), hn::IsNaN(x)))) {
      return hn::DemoteTo(DH(), hn::BitCast(di, rounded));
    }
    const auto nan = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40));
    const auto magnitude = hn::BitCast(di, hn::And(bits, hn::Set(du, 0x7fffffff)));
    const auto is_nan = hn::Gt(magnitude, hn::Set(di, 0x7f800000));
    return hn::DemoteTo(DH(),
                        hn::IfThenElse(is_nan, hn::BitCast(di, nan), hn::BitCast(di, rounded)));
  }
  static HWY_INLINE V Decode(VH encoded) {
    return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(DU(), encoded)));
  }
};

void EncodeAll(const float* x, int64_t n, std::byte* out) {
  half::HWY_NAMESPACE::Encode<Format>(x, n, out);
}
void DecodeAll(const std::byte* encoded, float* out, int64_t n) {
  half::HWY_NAMESPACE::Decode<Format>(encoded, out, n);
}

}  // namespace muster::bf16::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace muster {
namespace bf16 {

HWY_EXPORT(EncodeAll);
HWY_EXPORT(DecodeAll);

class Bf16 final : public Codec {
 public:
  const char* name() const override { return "bf16"; }
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

}  // namespace bf16

CodecPtr MakeBf16() { return std::make_shared<const bf16::Bf16>(); }

}  // namespace muster
#endif  // HWY_ONCE
