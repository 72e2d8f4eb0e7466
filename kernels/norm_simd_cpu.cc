#include "kernels/norm_simd_cpu.h"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/norm_simd_cpu.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace muster::simd::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

// Rows of a column that are summed as one: they stay in the cache for a second look.
constexpr int64_t kChunk = 64;

HWY_INLINE int64_t LanesOf(D d) { return static_cast<int64_t>(hn::Lanes(d)); }

// The first `count` lanes, the others `rest`; with kFull all of them.
template <bool kFull>
HWY_INLINE V Load(D d, const float* x, int64_t count, float rest = 0) {
  if (kFull) return hn::LoadU(d, x);
  float some[16];
  std::fill_n(some, 16, rest);
  std::copy_n(x, count, some);
  return hn::LoadU(d, some);
}

template <bool kFull>
HWY_INLINE void Store(D d, V v, float* y, int64_t count) {
  if (kFull) return hn::StoreU(v, d, y);
  float some[16];
  hn::StoreU(v, d, some);
  std::copy_n(some, count, y);
}

// The columns from `x` on, kVectors vectors of them, or one of `count`: sums over rows stay in
// registers.
template <int kVectors, bool kFull>
HWY_INLINE void MomentsOfColumns(int64_t rows, int64_t cols, int64_t count, const float* x,
                                 float* mean, float* squares) {
  const D d;
  const int64_t lanes = LanesOf(d);
  V means[kVectors], sums[kVectors];
  for (int v = 0; v < kVectors; ++v) means[v] = sums[v] = hn::Zero(d);
  for (int64_t first = 0; first < rows; first += kChunk) {
    const int64_t n = std::min(kChunk, rows - first);
    const float* const from = x + first * cols;
    V of_chunk[kVectors], squared[kVectors];
    for (int v = 0; v < kVectors; ++v) of_chunk[v] = squared[v] = hn::Zero(d);
    for (int64_t i = 0; i < n; ++i) {
      for (int v = 0; v < kVectors; ++v) {
        of_chunk[v] = hn::Add(of_chunk[v], Load<kFull>(d, from + i * cols + v * lanes, count));
      }
    }
    const V share = hn::Set(d, 1 / static_cast<float>(n));
    for (int v = 0; v < kVectors; ++v) of_chunk[v] = hn::Mul(of_chunk[v], share);
    for (int64_t i = 0; i < n; ++i) {
      for (int v = 0; v < kVectors; ++v) {
        const V away = hn::Sub(Load<kFull>(d, from + i * cols + v * lanes, count), of_chunk[v]);
        squared[v] = hn::MulAdd(away, away, squared[v]);
      }
    }
    // Chan, Golub, LeVeque: "Updating Formulae and a Pairwise Algorithm for Computing Sample
    // Variances", 1979.
    const float part = static_cast<float>(n) / static_cast<float>(first + n);
    const V weight = hn::Set(d, part), both = hn::Set(d, static_cast<float>(first) * part);
    for (int v = 0; v < kVectors; ++v) {
      const V delta = hn::Sub(of_chunk[v], means[v]);
      means[v] = hn::MulAdd(delta, weight, means[v]);
      sums[v] = hn::MulAdd(hn::Mul(delta, delta), both, hn::Add(sums[v], squared[v]));
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    Store<kFull>(d, means[v], mean + v * lanes, count);
    Store<kFull>(d, sums[v], squares + v * lanes, count);
  }
}

// As ColumnGradientSums, of the columns from the pointers on.
template <int kVectors, bool kFull>
HWY_INLINE void SumsOfColumns(int64_t rows, int64_t cols, int64_t count, const float* x,
                              const float* dy, const float* mean, const float* inverse,
                              float* dgain, float* doffset) {
  const D d;
  const int64_t lanes = LanesOf(d);
  V means[kVectors], gains[kVectors], offsets[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    means[v] = Load<kFull>(d, mean + v * lanes, count);
    gains[v] = offsets[v] = hn::Zero(d);
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = i * cols + v * lanes;
      const V g = Load<kFull>(d, dy + at, count);
      const V away = hn::Sub(Load<kFull>(d, x + at, count), means[v]);
      gains[v] = hn::MulAdd(g, away, gains[v]);
      offsets[v] = hn::Add(offsets[v], g);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const V factor = Load<kFull>(d, inverse + v * lanes, count);
    Store<kFull>(d, hn::Mul(gains[v], factor), dgain + v * lanes, count);
    Store<kFull>(d, offsets[v], doffset + v * lanes, count);
  }
}

void ColumnMoments(int64_t rows, int64_t cols, const float* x, float* mean, float* squares) {
  const int64_t lanes = LanesOf(D());
  int64_t j = 0;
  for (; j + 4 * lanes <= cols; j += 4 * lanes) {
    MomentsOfColumns<4, true>(rows, cols, 0, x + j, mean + j, squares + j);
  }
  for (; j + lanes <= cols; j += lanes) {
    MomentsOfColumns<1, true>(rows, cols, 0, x + j, mean + j, squares + j);
  }
  if (j < cols) MomentsOfColumns<1, false>(rows, cols, cols - j, x + j, mean + j, squares + j);
}

void ColumnGradientSums(int64_t rows, int64_t cols, const float* x, const float* dy,
                        const float* mean, const float* inverse, float* dgain, float* doffset) {
  const int64_t lanes = LanesOf(D());
  int64_t j = 0;
  for (; j + 4 * lanes <= cols; j += 4 * lanes) {
    SumsOfColumns<4, true>(rows, cols, 0, x + j, dy + j, mean + j, inverse + j, dgain + j,
                           doffset + j);
  }
  for (; j + lanes <= cols; j += lanes) {
    SumsOfColumns<1, true>(rows, cols, 0, x + j, dy + j, mean + j, inverse + j, dgain + j,
                           doffset + j);
  }
  if (j < cols) {
    SumsOfColumns<1, false>(rows, cols, cols - j, x + j, dy + j, mean + j, inverse + j, dgain + j,
                            doffset + j);
  }
}

// Calls one.operator()<kFull, kSum>(j, count) for each vector of [0, n): its first element, and how
// many there are. Vectors are dealt out to four sums in turn, so that none waits for the one
// before.
template <class One>
HWY_INLINE void EachVector(int64_t n, const One& one) {
  const int64_t lanes = LanesOf(D());
  int64_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) {
    one.template operator()<true, 0>(j, lanes);
    one.template operator()<true, 1>(j + lanes, lanes);
    one.template operator()<true, 2>(j + 2 * lanes, lanes);
    one.template operator()<true, 3>(j + 3 * lanes, lanes);
  }
  for (; j + lanes <= n; j += lanes) one.template operator()<true, 0>(j, lanes);
  if (j < n) one.template operator()<false, 0>(j, n - j);
}

void NormalizeColumns(int64_t rows, int64_t cols, const float* x, const float* mean,
                      const float* scale, const float* offset, float* y) {
  const D d;
  for (int64_t i = 0; i < rows; ++i, x += cols, y += cols) {
    EachVector(cols, [&]<bool kFull, int kSum>(int64_t j, int64_t count) HWY_ATTR {
      const V away = hn::Sub(Load<kFull>(d, x + j, count), Load<kFull>(d, mean + j, count));
      Store<kFull>(
          d, hn::MulAdd(away, Load<kFull>(d, scale + j, count), Load<kFull>(d, offset + j, count)),
          y + j, count);
    });
  }
}

void ColumnGradient(int64_t rows, int64_t cols, const float* x, const float* dy, const float* mean,
                    const float* scale, const float* a, const float* b, float* dx) {
  const D d;
  for (int64_t i = 0; i < rows; ++i, x += cols, dy += cols, dx += cols) {
    EachVector(cols, [&]<bool kFull, int kSum>(int64_t j, int64_t count) HWY_ATTR {
      const V away = hn::Sub(Load<kFull>(d, x + j, count), Load<kFull>(d, mean + j, count));
      const V g = hn::Sub(Load<kFull>(d, dy + j, count), Load<kFull>(d, a + j, count));
      const V v = hn::NegMulAdd(away, Load<kFull>(d, b + j, count), g);
      Store<kFull>(d, hn::Mul(v, Load<kFull>(d, scale + j, count)), dx + j, count);
    });
  }
}

struct FourSums {
  V v[4];
  HWY_INLINE FourSums() {
    for (V& sum : v) sum = hn::Zero(D());
  }
  HWY_INLINE float Total() const {
    const V all = hn::Add(hn::Add(v[0], v[1]), hn::Add(v[2], v[3]));
    return hn::GetLane(hn::SumOfLanes(D(), all));
  }
};

RowMoments MomentsOfRow(int64_t n, const float* x) {
  const D d;
  const auto size = static_cast<float>(n);
  FourSums sum;
  EachVector(n, [&]<bool kFull, int kSum>(int64_t j, int64_t count)
                    HWY_ATTR { sum.v[kSum] = hn::Add(sum.v[kSum], Load<kFull>(d, x + j, count)); });
  const float mean = sum.Total() / size;
  const V means = hn::Set(d, mean);
  FourSums squares;
  EachVector(n, [&]<bool kFull, int kSum>(int64_t j, int64_t count) HWY_ATTR {
    const V away = hn::Sub(Load<kFull>(d, x + j, count, mean), means);
    squares.v[kSum] = hn::MulAdd(away, away, squares.v[kSum]);
  });
  return {mean, squares.Total() / size};
}

void NormalizeRow(int64_t n, const float* x, float mean, float inverse, const float* gain,
                  const float* offset, float* y) {
  const D d;
  const V means = hn::Set(d, mean), inverses = hn::Set(d, inverse);
  EachVector(n, [&]<bool kFull, int kSum>(int64_t j, int64_t count) HWY_ATTR {
    const V z = hn::Mul(hn::Sub(Load<kFull>(d, x + j, count), means), inverses);
    Store<kFull>(d,
                 hn::MulAdd(z, Load<kFull>(d, gain + j, count), Load<kFull>(d, offset + j, count)),
                 y + j, count);
  });
}

RowGradientSums GradientSumsOfRow(int64_t n, const float* x, const float* dy, const float* gain,
                                  float mean, float inverse, float* dgain, float* doffset) {
  const D d;
  const V means = hn::Set(d, mean), inverses = hn::Set(d, inverse);
  FourSums g, gz;
  EachVector(n, [&]<bool kFull, int kSum>(int64_t j, int64_t count) HWY_ATTR {
    const V dys = Load<kFull>(d, dy + j, count);
    const V z = hn::Mul(hn::Sub(Load<kFull>(d, x + j, count), means), inverses);
    const V gs = hn::Mul(dys, Load<kFull>(d, gain + j, count));
    g.v[kSum] = hn::Add(g.v[kSum], gs);
    gz.v[kSum] = hn::MulAdd(gs, z, gz.v[kSum]);
    Store<kFull>(d, hn::MulAdd(dys, z, Load<kFull>(d, dgain + j, count)), dgain + j, count);
    Store<kFull>(d, hn::Add(dys, Load<kFull>(d, doffset + j, count)), doffset + j, count);
  });
  return {g.Total(), gz.Total()};
}

void RowGradient(int64_t n, const float* x, const float* dy, const float* gain, float mean,
                 float inverse, float a, float b, float* dx) {
  const D d;
  const V means = hn::Set(d, mean), inverses = hn::Set(d, inverse), as = hn::Set(d, a),
          bs = hn::Set(d, b);
  EachVector(n, [&]<bool kFull, int kSum>(int64_t j, int64_t count) HWY_ATTR {
    const V away = hn::Sub(Load<kFull>(d, x + j, count), means);
    const V g = hn::MulSub(Load<kFull>(d, dy + j, count), Load<kFull>(d, gain + j, count), as);
    Store<kFull>(d, hn::Mul(hn::NegMulAdd(away, bs, g), inverses), dx + j, count);
  });
}

}  // namespace muster::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace muster::simd {

HWY_EXPORT(ColumnMoments);
HWY_EXPORT(NormalizeColumns);
HWY_EXPORT(ColumnGradientSums);
HWY_EXPORT(ColumnGradient);
HWY_EXPORT(MomentsOfRow);
HWY_EXPORT(NormalizeRow);
HWY_EXPORT(GradientSumsOfRow);
HWY_EXPORT(RowGradient);

void ColumnMoments(int64_t rows, int64_t cols, const float* x, float* mean, float* squares) {
  HWY_DYNAMIC_DISPATCH(ColumnMoments)(rows, cols, x, mean, squares);
}
void NormalizeColumns(int64_t rows, int64_t cols, const float* x, const float* mean,
                      const float* scale, const float* offset, float* y) {
  HWY_DYNAMIC_DISPATCH(NormalizeColumns)(rows, cols, x, mean, scale, offset, y);
}
void ColumnGradientSums(int64_t rows, int64_t cols, const float* x, const float* dy,
                        const float* mean, const float* inverse, float* dgain, float* doffset) {
  HWY_DYNAMIC_DISPATCH(ColumnGradientSums)(rows, cols, x, dy, mean, inverse, dgain, doffset);
}
void ColumnGradient(int64_t rows, int64_t cols, const float* x, const float* dy, const float* mean,
                    const float* scale, const float* a, const float* b, float* dx) {
  HWY_DYNAMIC_DISPATCH(ColumnGradient)(rows, cols, x, dy, mean, scale, a, b, dx);
}
RowMoments MomentsOfRow(int64_t n, const float* x) {
  return HWY_DYNAMIC_DISPATCH(MomentsOfRow)(n, x);
}
void NormalizeRow(int64_t n, const float* x, float mean, float inverse, const float* gain,
                  const float* offset, float* y) {
  HWY_DYNAMIC_DISPATCH(NormalizeRow)(n, x, mean, inverse, gain, offset, y);
}
RowGradientSums GradientSumsOfRow(int64_t n, const float* x, const float* dy, const float* gain,
                                  float mean, float inverse, float* dgain, float* doffset) {
  return HWY_DYNAMIC_DISPATCH(GradientSumsOfRow)(n, x, dy, gain, mean, inverse, dgain, doffset);
}
void RowGradient(int64_t n, const float* x, const float* dy, const float* gain, float mean,
                 float inverse, float a, float b, float* dx) {
  HWY_DYNAMIC_DISPATCH(RowGradient)(n, x, dy, gain, mean, inverse, a, b, dx);
}

}  // namespace muster::simd
#endif
