#include "kernels/simd_cpu.h"

#include <algorithm>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd_cpu.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace muster::simd::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
using M = hn::Mask<D>;
using DI = hn::RebindToSigned<D>;
using VI = hn::Vec<DI>;
using DB = hn::Rebind<uint8_t, D>;

HWY_INLINE int64_t LanesOf(D d) { return static_cast<int64_t>(hn::Lanes(d)); }

// The low bits of `bits` as a mask.
HWY_INLINE M ToMask(D d, uint64_t bits) {
  uint8_t bytes[8];
  std::memcpy(bytes, &bits, 8);
  return hn::LoadMaskBits(d, bytes);
}

HWY_INLINE uint32_t ToBits(D d, M mask) {
  uint8_t bytes[8] = {};
  hn::StoreMaskBits(d, mask, bytes);
  uint32_t bits;
  std::memcpy(&bits, bytes, 4);
  return bits;
}

// The 16 and more bits from bit `at` of `bytes` on.
HWY_INLINE uint64_t BitsAt(const uint8_t* bytes, int64_t at) {
  uint64_t word;
  std::memcpy(&word, bytes + at / 8, 8);
  return word >> (at % 8);
}

// `count` elements, a multiple of the lanes; returns the bits of those that are not 0 (with kRelu).
template <bool kRelu>
HWY_INLINE uint32_t Group(D d, int64_t count, uint32_t keep, V scale, const float* x, float* y) {
  const int64_t lanes = LanesOf(d);
  uint32_t bits = 0;
  for (int64_t i = 0; i < count; i += lanes) {
    const V v = hn::LoadU(d, x + i);
    M m = ToMask(d, keep >> i);
    if (kRelu) m = hn::And(m, hn::Gt(v, hn::Zero(d)));
    hn::StoreU(hn::IfThenElseZero(m, hn::Mul(v, scale)), d, y + i);
    if (kRelu) bits |= ToBits(d, m) << i;
  }
  return bits;
}

template <bool kRelu>
HWY_INLINE void Masked(int64_t n, const uint32_t* keep, float scale, const float* x, float* y,
                       uint32_t* mask) {
  const D d;
  const V factor = hn::Set(d, scale);
  for (int64_t from = 0; from < n; from += 32) {
    const int64_t count = std::min<int64_t>(32, n - from);
    uint32_t kept = keep == nullptr ? 0xffffffff : keep[from / 32];
    uint32_t bits;
    if (count == 32) {
      bits = Group<kRelu>(d, 32, kept, factor, x + from, y + from);
    } else {
      float rest_x[32] = {}, rest_y[32];
      std::copy_n(x + from, count, rest_x);
      kept &= (uint32_t{1} << count) - 1;
      bits = Group<kRelu>(d, 32, kept, factor, rest_x, rest_y);
      std::copy_n(rest_y, count, y + from);
    }
    if (kRelu && mask != nullptr) mask[from / 32] = bits;
  }
}

void ReluKeep(int64_t n, const uint32_t* keep, float scale, const float* x, float* y,
              uint32_t* mask) {
  Masked<true>(n, keep, scale, x, y, mask);
}

void Keep(int64_t n, const uint32_t* keep, float scale, const float* x, float* y) {
  Masked<false>(n, keep, scale, x, y, nullptr);
}

// y[i] = op(a[i], b[i], y[i])
template <class Op>
HWY_INLINE void Each(int64_t n, const float* a, const float* b, float* y, Op op) {
  const D d;
  const int64_t lanes = LanesOf(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(op(hn::LoadU(d, a + i), hn::LoadU(d, b + i), hn::LoadU(d, y + i)), d, y + i);
  }
  if (i < n) {
    float ra[16] = {}, rb[16] = {}, ry[16] = {};
    std::copy_n(a + i, n - i, ra);
    std::copy_n(b + i, n - i, rb);
    std::copy_n(y + i, n - i, ry);
    hn::StoreU(op(hn::LoadU(d, ra), hn::LoadU(d, rb), hn::LoadU(d, ry)), d, ry);
    std::copy_n(ry, n - i, y + i);
  }
}

void Add(int64_t n, const float* x, float* y) {
  Each(n, x, x, y, [](V a, V, V c) HWY_ATTR { return hn::Add(c, a); });
}
void Axpy(int64_t n, float a, const float* x, float* y) {
  const V factor = hn::Set(D(), a);
  Each(n, x, x, y, [factor](V v, V, V c) HWY_ATTR { return hn::MulAdd(factor, v, c); });
}
void Mul(int64_t n, const float* a, const float* b, float* y) {
  Each(n, a, b, y, [](V va, V vb, V) HWY_ATTR { return hn::Mul(va, vb); });
}
void AddMul(int64_t n, const float* a, const float* b, float* y) {
  Each(n, a, b, y, [](V va, V vb, V c) HWY_ATTR { return hn::MulAdd(va, vb, c); });
}

// kVectors vectors of columns from `x` on, in registers.
template <int kVectors>
HWY_INLINE void SumColumns(int64_t rows, int64_t cols, const float* x, float* sum) {
  const D d;
  const int64_t lanes = LanesOf(d);
  V total[kVectors];
  for (int v = 0; v < kVectors; ++v) total[v] = hn::Zero(d);
  for (int64_t i = 0; i < rows; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      total[v] = hn::Add(total[v], hn::LoadU(d, x + i * cols + v * lanes));
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    hn::StoreU(hn::Add(hn::LoadU(d, sum + v * lanes), total[v]), d, sum + v * lanes);
  }
}

void SumRows(int64_t rows, int64_t cols, const float* x, float* sum) {
  const int64_t lanes = LanesOf(D());
  int64_t j = 0;
  for (; j + 4 * lanes <= cols; j += 4 * lanes) SumColumns<4>(rows, cols, x + j, sum + j);
  for (; j + lanes <= cols; j += lanes) SumColumns<1>(rows, cols, x + j, sum + j);
  for (; j < cols; ++j) {
    float total = 0;
    for (int64_t i = 0; i < rows; ++i) total += x[i * cols + j];
    sum[j] += total;
  }
}

// Fetches the row of a position ahead of p, which only ids tell, into the cache.
HWY_INLINE void FetchAhead(int64_t p, int64_t n, const int32_t* ids, int64_t width, int64_t cols,
                           const float* table) {
  constexpr int64_t kAhead = 8, kLine = 16;
  if (p + kAhead >= n) return;
  for (int64_t j = 0; j < cols; j += kLine) hwy::Prefetch(table + ids[p + kAhead] * width + j);
}

void CopyRows(int64_t n, const int32_t* ids, int64_t width, const float* table, float* y) {
  for (int64_t p = 0; p < n; ++p) {
    FetchAhead(p, n, ids, width, width, table);
    std::copy_n(table + ids[p] * width, width, y + p * width);
  }
}

void AddToRows(int64_t n, const int32_t* ids, int64_t width, int64_t cols, const float* x,
               float* table) {
  for (int64_t p = 0; p < n; ++p) {
    FetchAhead(p, n, ids, width, cols, table);
    Add(cols, x + p * width, table + ids[p] * width);
  }
}

// The part of the window at output (i, j) that lies on the image: rows [a0, a1) and columns [b0,
// b1) of the window.
struct Patch {
  int64_t a0, a1, b0, b1, top, left;
  Patch(const Window& w, int64_t i, int64_t j)
      : top(i * w.stride.h - w.pad.h), left(j * w.stride.w - w.pad.w) {
    a0 = std::max<int64_t>(0, -top);
    a1 = std::min(w.kernel.h, w.in.h - top);
    b0 = std::max<int64_t>(0, -left);
    b1 = std::min(w.kernel.w, w.in.w - left);
  }
};

// The first `count` lanes; with kFull all of them.
template <bool kFull>
HWY_INLINE V LoadSome(D d, const float* x, int64_t count) {
  if (kFull) return hn::LoadU(d, x);
  float rest[16] = {};
  std::copy_n(x, count, rest);
  return hn::LoadU(d, rest);
}

template <bool kFull>
HWY_INLINE void StoreSome(D d, V v, float* y, int64_t count) {
  if (kFull) return hn::StoreU(v, d, y);
  float rest[16];
  hn::StoreU(v, d, rest);
  std::copy_n(rest, count, y);
}

template <bool kFull>
HWY_INLINE void PoolVector(const PoolArgs& pool, const Patch& p, int64_t c, int64_t count,
                           const float* image, const uint8_t* keep, int64_t keep_from, V scale,
                           float* y, uint8_t* winners) {
  const D d;
  const DI di;
  V best = hn::Set(d, pool.relu ? 0.0f : -std::numeric_limits<float>::infinity());
  VI place =
      hn::Set(di, pool.relu ? kNoWinner : static_cast<int32_t>(p.a0 * pool.window.kernel.w + p.b0));
  for (int64_t a = p.a0; a < p.a1; ++a) {
    for (int64_t b = p.b0; b < p.b1; ++b) {
      const int64_t e = ((p.top + a) * pool.window.in.w + p.left + b) * pool.channels + c;
      V v = LoadSome<kFull>(d, image + e, count);
      if (keep != nullptr) v = hn::IfThenElseZero(ToMask(d, BitsAt(keep, e - keep_from)), v);
      const M larger = hn::Gt(v, best);
      best = hn::IfThenElse(larger, v, best);
      place =
          hn::IfThenElse(hn::RebindMask(di, larger),
                         hn::Set(di, static_cast<int32_t>(a * pool.window.kernel.w + b)), place);
    }
  }
  StoreSome<kFull>(d, hn::Mul(best, scale), y + c, count);
  if (winners == nullptr) return;
  if (kFull) {
    hn::StoreU(hn::DemoteTo(DB(), place), DB(), winners + c);
  } else {
    uint8_t rest[16];
    hn::StoreU(hn::DemoteTo(DB(), place), DB(), rest);
    std::copy_n(rest, count, winners + c);
  }
}

void PoolRow(const PoolArgs& pool, int64_t i, const float* image, const uint8_t* keep,
             int64_t keep_from, float* y, uint8_t* winners) {
  const D d;
  const int64_t lanes = LanesOf(d);
  const V scale = hn::Set(d, pool.dropout.scale());
  for (int64_t j = 0; j < pool.window.out.w; ++j) {
    const Patch p(pool.window, i, j);
    int64_t c = 0;
    for (; c + lanes <= pool.channels; c += lanes) {
      PoolVector<true>(pool, p, c, lanes, image, keep, keep_from, scale, y, winners);
    }
    if (c < pool.channels) {
      PoolVector<false>(pool, p, c, pool.channels - c, image, keep, keep_from, scale, y, winners);
    }
    y += pool.channels;
    if (winners != nullptr) winners += pool.channels;
  }
}

template <bool kFull>
HWY_INLINE void PoolVectorGradient(const PoolArgs& pool, const Patch& p, bool overlap, int64_t c,
                                   int64_t count, V scale, const uint8_t* winners, const float* dy,
                                   float* dimage) {
  const D d;
  const DI di;
  uint8_t rest[16] = {};
  if (!kFull) std::copy_n(winners + c, count, rest);
  const VI place = hn::PromoteTo(di, hn::LoadU(DB(), kFull ? winners + c : rest));
  const V g = hn::Mul(LoadSome<kFull>(d, dy + c, count), scale);
  for (int64_t a = p.a0; a < p.a1; ++a) {
    for (int64_t b = p.b0; b < p.b1; ++b) {
      float* to = dimage + ((p.top + a) * pool.window.in.w + p.left + b) * pool.channels + c;
      const VI here = hn::Set(di, static_cast<int32_t>(a * pool.window.kernel.w + b));
      V v = hn::IfThenElseZero(hn::RebindMask(d, hn::Eq(place, here)), g);
      if (overlap) v = hn::Add(LoadSome<kFull>(d, to, count), v);
      StoreSome<kFull>(d, v, to, count);
    }
  }
}

void PoolRowGradient(const PoolArgs& pool, int64_t i, bool overlap, const uint8_t* winners,
                     const float* dy, float* dimage) {
  const D d;
  const int64_t lanes = LanesOf(d);
  const V scale = hn::Set(d, pool.dropout.scale());
  for (int64_t j = 0; j < pool.window.out.w; ++j) {
    const Patch p(pool.window, i, j);
    int64_t c = 0;
    for (; c + lanes <= pool.channels; c += lanes) {
      PoolVectorGradient<true>(pool, p, overlap, c, lanes, scale, winners, dy, dimage);
    }
    if (c < pool.channels) {
      PoolVectorGradient<false>(pool, p, overlap, c, pool.channels - c, scale, winners, dy, dimage);
    }
    dy += pool.channels;
    winners += pool.channels;
  }
}

}  // namespace muster::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace muster::simd {

HWY_EXPORT(ReluKeep);
HWY_EXPORT(Keep);
HWY_EXPORT(Add);
HWY_EXPORT(Axpy);
HWY_EXPORT(Mul);
HWY_EXPORT(AddMul);
HWY_EXPORT(SumRows);
HWY_EXPORT(CopyRows);
HWY_EXPORT(AddToRows);
HWY_EXPORT(PoolRow);
HWY_EXPORT(PoolRowGradient);

void ReluKeep(int64_t n, const uint32_t* keep, float scale, const float* x, float* y,
              uint32_t* mask) {
  HWY_DYNAMIC_DISPATCH(ReluKeep)(n, keep, scale, x, y, mask);
}
void Keep(int64_t n, const uint32_t* keep, float scale, const float* x, float* y) {
  HWY_DYNAMIC_DISPATCH(Keep)(n, keep, scale, x, y);
}
void Add(int64_t n, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(Add)(n, x, y); }
void Axpy(int64_t n, float a, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(Axpy)(n, a, x, y); }
void Mul(int64_t n, const float* a, const float* b, float* y) {
  HWY_DYNAMIC_DISPATCH(Mul)(n, a, b, y);
}
void AddMul(int64_t n, const float* a, const float* b, float* y) {
  HWY_DYNAMIC_DISPATCH(AddMul)(n, a, b, y);
}
void SumRows(int64_t rows, int64_t cols, const float* x, float* sum) {
  HWY_DYNAMIC_DISPATCH(SumRows)(rows, cols, x, sum);
}
void CopyRows(int64_t n, const int32_t* ids, int64_t width, const float* table, float* y) {
  HWY_DYNAMIC_DISPATCH(CopyRows)(n, ids, width, table, y);
}
void AddToRows(int64_t n, const int32_t* ids, int64_t width, int64_t cols, const float* x,
               float* table) {
  HWY_DYNAMIC_DISPATCH(AddToRows)(n, ids, width, cols, x, table);
}
void PoolRow(const PoolArgs& pool, int64_t i, const float* image, const uint8_t* keep,
             int64_t keep_from, float* y, uint8_t* winners) {
  HWY_DYNAMIC_DISPATCH(PoolRow)(pool, i, image, keep, keep_from, y, winners);
}
void PoolRowGradient(const PoolArgs& pool, int64_t i, bool overlap, const uint8_t* winners,
                     const float* dy, float* dimage) {
  HWY_DYNAMIC_DISPATCH(PoolRowGradient)(pool, i, overlap, winners, dy, dimage);
}

}  // namespace muster::simd
#endif
