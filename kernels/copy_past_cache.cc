#include "kernels/copy_past_cache.h"

#include <cstdint>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/copy_past_cache.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace muster::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void CopyPastCache(std::byte* dst_bytes, const std::byte* src_bytes, size_t bytes) {
  const hn::ScalableTag<uint8_t> d;
  const size_t lanes = hn::Lanes(d);
  auto* dst = reinterpret_cast<uint8_t*>(dst_bytes);
  const auto* src = reinterpret_cast<const uint8_t*>(src_bytes);
  // Such stores are of whole lines alone.
  constexpr size_t kLine = 64;
  const size_t head = (kLine - reinterpret_cast<uintptr_t>(dst) % kLine) % kLine;
  if (bytes < head + kLine) {
    std::memcpy(dst, src, bytes);
    return;
  }
  std::memcpy(dst, src, head);
  size_t i = head;
  for (; i + kLine <= bytes; i += kLine) {
    for (size_t j = 0; j < kLine; j += lanes) {
      hn::Stream(hn::LoadU(d, src + i + j), d, dst + i + j);
    }
  }
  hwy::FlushStream();
  std::memcpy(dst + i, src + i, bytes - i);
}

}  // namespace muster::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace muster {

HWY_EXPORT(CopyPastCache);

void CopyPastCache(std::byte* dst, const std::byte* src, size_t bytes) {
  HWY_DYNAMIC_DISPATCH(CopyPastCache)(dst, src, bytes);
}

}  // namespace muster
#endif
