// The loops that fp16 and bf16 share: arrays of float32 to and from 16 bits an element. Included
// once for each instruction set (Highway); thread-safe.
//
// `Format` has Encode(vector of float) and Decode(vector of uint16_t), which are each other's
// inverse up to rounding. The last, partial vector goes through a padded copy, so that every
// element sees the same instructions. `bytes` may lie at any address.
#if defined(MUSTER_KERNELS_CODECS_HALF_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MUSTER_KERNELS_CODECS_HALF_INL_H_
#undef MUSTER_KERNELS_CODECS_HALF_INL_H_
#else
#define MUSTER_KERNELS_CODECS_HALF_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace muster::half::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using DI = hn::RebindToSigned<D>;
using DU = hn::RebindToUnsigned<D>;
using DH = hn::Rebind<uint16_t, D>;
using V = hn::Vec<D>;
using VH = hn::Vec<DH>;
constexpr int64_t kLanes = hn::MaxLanes(D());

template <class Format>
HWY_INLINE void Encode(const float* x, int64_t n, std::byte* bytes) {
  uint16_t* out = reinterpret_cast<uint16_t*>(bytes);  // only for StoreU, which may be unaligned
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    hn::StoreU(Format::Encode(hn::LoadU(D(), x + i)), DH(), out + i);
  }
  if (i == n) return;
  HWY_ALIGN float rest[kLanes] = {};
  HWY_ALIGN uint16_t encoded[kLanes];
  std::memcpy(rest, x + i, static_cast<size_t>(n - i) * sizeof(float));
  hn::Store(Format::Encode(hn::Load(D(), rest)), DH(), encoded);
  std::memcpy(bytes + i * 2, encoded, static_cast<size_t>(n - i) * 2);
}

template <class Format>
HWY_INLINE void Decode(const std::byte* bytes, float* out, int64_t n) {
  const uint16_t* encoded = reinterpret_cast<const uint16_t*>(bytes);  // only for LoadU
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    hn::StoreU(Format::Decode(hn::LoadU(DH(), encoded + i)), D(), out + i);
  }
  if (i == n) return;
  HWY_ALIGN uint16_t rest[kLanes] = {};
  HWY_ALIGN float decoded[kLanes];
  std::memcpy(rest, bytes + i * 2, static_cast<size_t>(n - i) * 2);
  hn::Store(Format::Decode(hn::Load(DH(), rest)), D(), decoded);
  std::memcpy(out + i, decoded, static_cast<size_t>(n - i) * sizeof(float));
}

}  // namespace muster::half::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // include guard
