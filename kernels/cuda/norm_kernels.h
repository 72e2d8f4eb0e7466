// Kernels of the norms (NormArgs in device_ops.h): the moments of columns or rows, what they are
// normalised by, and the gradients.
//
// Sums over rows come in passes, as in element_kernels.h; a row's own sums begin with CeilDiv(cols,
// kSumChunk) partial ones, each of values that lie far apart, so that neighbours read neighbours. A
// partial result of pass 1 lies at [partial sum, row], so that the later passes are those of
// columns. See kernel.h for what a kernel is. `inverse` is 1 / sqrt(variance + epsilon).
#pragma once

#include <cmath>

#include "kernels/cuda/element_kernels.h"
#include "kernels/cuda/kernel.h"
#include "kernels/device_ops.h"

namespace muster::gpu {

MUSTER_KERNEL float InverseDeviation(float variance, float epsilon) {
  return 1 / sqrtf(variance + epsilon);
}

// kWidth (1 or 4) neighbours; 4 lie as ByFours wants it.
template <int kWidth>
struct Neighbours {
  float v[kWidth];

  MUSTER_KERNEL static Neighbours At(const float* x) {
    Neighbours some;
    if constexpr (kWidth == 4) {
      const Pack4 pack = Load4(x);
      for (int k = 0; k < 4; ++k) some.v[k] = pack[k];
    } else {
      some.v[0] = x[0];
    }
    return some;
  }
  MUSTER_KERNEL void Store(float* x) const {
    if constexpr (kWidth == 4) {
      Store4({{v[0], v[1], v[2], v[3]}}, x);
    } else {
      x[0] = v[0];
    }
  }
  MUSTER_KERNEL float& operator[](int k) { return v[k]; }
  MUSTER_KERNEL float operator[](int k) const { return v[k]; }
};

// How many values, their mean, and the sum of their squared distances from it.
struct alignas(16) Moments {
  float count = 0, mean = 0, squares = 0, unused = 0;

  // Welford: "Note on a Method for Calculating Corrected Sums of Squares and Products", 1962.
  // `share` is 1 / (count + 1); the caller counts.
  MUSTER_KERNEL void Add(float x, float share) {
    const float delta = x - mean;
    mean = fmaf(delta, share, mean);
    squares = fmaf(delta, x - mean, squares);
  }
  // Chan, Golub, LeVeque: "Updating Formulae and a Pairwise Algorithm for Computing Sample
  // Variances", 1979. PRECONDITION: the other's count is not 0.
  MUSTER_KERNEL void Add(const Moments& other) {
    const float both = count + other.count, share = other.count / both;
    const float delta = other.mean - mean;
    mean = fmaf(delta, share, mean);
    squares = fmaf(delta * delta, count * share, squares + other.squares);
    count = both;
  }
};

// Where index i of a kernel over rows and groups of kWidth columns is; kRows rows an index.
struct NormPlace {
  int64_t first, end;  // rows
  int64_t column;

  template <int kWidth, int64_t kRows>
  MUSTER_KERNEL static NormPlace Of(int64_t i, const NormArgs& args) {
    const auto at = static_cast<uint32_t>(i), groups = static_cast<uint32_t>(args.cols / kWidth);
    NormPlace place;
    place.first = at / groups * kRows;
    place.end = place.first + kRows < args.rows ? place.first + kRows : args.rows;
    place.column = int64_t{at % groups} * kWidth;
    return place;
  }
};

// Moments [chunks, cols] of chunks of kSumChunk rows; an index is a chunk and kWidth columns.
template <int kWidth>
struct ColumnMomentsKernel {
  NormArgs args;
  Moments* partial;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto place = NormPlace::Of<kWidth, kSumChunk>(i, args);
    Moments moments[kWidth];
    float count = 0;
    for (int64_t r = place.first; r < place.end; ++r) {
      const auto x = Neighbours<kWidth>::At(args.x + r * args.cols + place.column);
      count += 1;
      const float share = 1 / count;
      for (int k = 0; k < kWidth; ++k) moments[k].Add(x[k], share);
    }
    for (int k = 0; k < kWidth; ++k) {
      moments[k].count = count;
      partial[i * kWidth + k] = moments[k];
    }
  }
};

// Moments [lanes, rows] of rows; an index is a row and one of its lanes, which has groups lane,
// lane
// + lanes, ... of kWidth columns.
template <int kWidth>
struct RowMomentsKernel {
  NormArgs args;
  int64_t lanes;
  Moments* partial;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i), all = static_cast<uint32_t>(lanes);
    const int64_t row = at / all, lane = at % all, groups = args.cols / kWidth;
    Moments moments[kWidth];
    float count = 0;
    for (int64_t g = lane; g < groups; g += lanes) {
      const auto x = Neighbours<kWidth>::At(args.x + row * args.cols + g * kWidth);
      count += 1;
      const float share = 1 / count;
      for (int k = 0; k < kWidth; ++k) moments[k].Add(x[k], share);
    }
    for (int k = 0; k < kWidth; ++k) moments[k].count = count;
    for (int k = 1; k < kWidth; ++k) moments[0].Add(moments[k]);
    partial[lane * args.rows + row] = moments[0];
  }
};

// Moments [chunks, cols] of chunks of kSumChunk rows of others; an index is a chunk and a column.
// With kLast there is one chunk, whose means and variances are written.
template <bool kLast>
struct MergeMomentsKernel {
  int64_t rows, cols;
  const Moments* from;
  Moments* to;             // not with kLast
  float *mean, *variance;  // with kLast

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i), all = static_cast<uint32_t>(cols);
    const int64_t first = at / all * kSumChunk, column = at % all;
    const int64_t end = first + kSumChunk < rows ? first + kSumChunk : rows;
    Moments moments = from[first * cols + column];
    for (int64_t r = first + 1; r < end; ++r) moments.Add(from[r * cols + column]);
    if constexpr (kLast) {
      mean[i] = moments.mean;
      variance[i] = moments.squares / moments.count;
    } else {
      to[i] = moments;
    }
  }
};

// Rows an index, where it takes several: what is a column's is computed once for them.
inline constexpr int64_t kNormRows = 8;

// y = (x - mean) inverse gain + offset by the columns' moments; an index is kNormRows rows and
// kWidth columns.
template <int kWidth>
struct NormalizeColumnsKernel {
  NormArgs args;
  const float *mean, *variance;
  float* y;  // may be x

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto place = NormPlace::Of<kWidth, kNormRows>(i, args);
    const auto means = Neighbours<kWidth>::At(mean + place.column);
    const auto offset = Neighbours<kWidth>::At(args.offset + place.column);
    auto scale = Neighbours<kWidth>::At(variance + place.column);
    const auto gain = Neighbours<kWidth>::At(args.gain + place.column);
    for (int k = 0; k < kWidth; ++k) scale[k] = InverseDeviation(scale[k], args.epsilon) * gain[k];
    for (int64_t r = place.first; r < place.end; ++r) {
      const int64_t e = r * args.cols + place.column;
      auto x = Neighbours<kWidth>::At(args.x + e);
      for (int k = 0; k < kWidth; ++k) x[k] = fmaf(x[k] - means[k], scale[k], offset[k]);
      x.Store(y + e);
    }
  }
};

// The same by the rows' moments; an index is kWidth columns of a row.
template <int kWidth>
struct NormalizeRowsKernel {
  NormArgs args;
  const float *mean, *variance;
  float* y;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto place = NormPlace::Of<kWidth, 1>(i, args);
    const float center = mean[place.first];
    const float inverse = InverseDeviation(variance[place.first], args.epsilon);
    auto x = Neighbours<kWidth>::At(args.x + i * kWidth);
    const auto gain = Neighbours<kWidth>::At(args.gain + place.column);
    const auto offset = Neighbours<kWidth>::At(args.offset + place.column);
    for (int k = 0; k < kWidth; ++k) {
      x[k] = fmaf((x[k] - center) * inverse, gain[k], offset[k]);
    }
    x.Store(y + i * kWidth);
  }
};

// Sums over chunks of kSumChunk rows, [chunks, cols]: of dy z for the gain's gradient, of dy for
// the offset's. kOfRows: the moments are the rows'. An index is a chunk and kWidth columns.
template <int kWidth, bool kOfRows>
struct GainGradientKernel {
  NormArgs args;
  const float *mean, *variance, *dy;
  float *dgain, *doffset;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto place = NormPlace::Of<kWidth, kSumChunk>(i, args);
    Neighbours<kWidth> gains = {}, offsets = {}, means = {};
    if constexpr (!kOfRows) means = Neighbours<kWidth>::At(mean + place.column);
    for (int64_t r = place.first; r < place.end; ++r) {
      const int64_t e = r * args.cols + place.column;
      const auto x = Neighbours<kWidth>::At(args.x + e);
      const auto g = Neighbours<kWidth>::At(dy + e);
      const float center = kOfRows ? mean[r] : 0;
      const float inverse = kOfRows ? InverseDeviation(variance[r], args.epsilon) : 0;
      for (int k = 0; k < kWidth; ++k) {
        const float away = kOfRows ? (x[k] - center) * inverse : x[k] - means[k];
        gains[k] = fmaf(g[k], away, gains[k]);
        offsets[k] += g[k];
      }
    }
    if constexpr (!kOfRows) {
      const auto variances = Neighbours<kWidth>::At(variance + place.column);
      for (int k = 0; k < kWidth; ++k) gains[k] *= InverseDeviation(variances[k], args.epsilon);
    }
    gains.Store(dgain + i * kWidth);
    offsets.Store(doffset + i * kWidth);
  }
};

// dx = gain inverse (dy - doffset / rows - z dgain / rows); an index is kNormRows rows and kWidth
// columns.
template <int kWidth>
struct ColumnGradientKernel {
  NormArgs args;
  const float *mean, *variance, *dy, *dgain, *doffset;
  float* dx;  // may be x or dy

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto place = NormPlace::Of<kWidth, kNormRows>(i, args);
    const float share = 1 / static_cast<float>(args.rows);
    const auto means = Neighbours<kWidth>::At(mean + place.column);
    auto scale = Neighbours<kWidth>::At(variance + place.column);
    auto a = Neighbours<kWidth>::At(doffset + place.column);
    auto b = Neighbours<kWidth>::At(dgain + place.column);
    const auto gain = Neighbours<kWidth>::At(args.gain + place.column);
    for (int k = 0; k < kWidth; ++k) {
      const float inverse = InverseDeviation(scale[k], args.epsilon);
      a[k] *= share;
      b[k] *= share * inverse;
      scale[k] = gain[k] * inverse;
    }
    for (int64_t r = place.first; r < place.end; ++r) {
      const int64_t e = r * args.cols + place.column;
      const auto x = Neighbours<kWidth>::At(args.x + e);
      auto g = Neighbours<kWidth>::At(dy + e);
      for (int k = 0; k < kWidth; ++k) {
        g[k] = scale[k] * fmaf(means[k] - x[k], b[k], g[k] - a[k]);
      }
      g.Store(dx + e);
    }
  }
};

// Sums of dy gain and of dy gain z over a row's lane, each [lanes, rows]; an index as
// RowMomentsKernel's.
template <int kWidth>
struct RowSumsKernel {
  NormArgs args;
  int64_t lanes;
  const float *mean, *variance, *dy;
  float *sums, *sums_z;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto at = static_cast<uint32_t>(i), all = static_cast<uint32_t>(lanes);
    const int64_t row = at / all, lane = at % all, groups = args.cols / kWidth;
    const float center = mean[row];
    Neighbours<kWidth> sum = {}, sum_away = {};
    for (int64_t n = lane; n < groups; n += lanes) {
      const int64_t e = row * args.cols + n * kWidth;
      const auto x = Neighbours<kWidth>::At(args.x + e);
      const auto g = Neighbours<kWidth>::At(dy + e);
      const auto gain = Neighbours<kWidth>::At(args.gain + n * kWidth);
      for (int k = 0; k < kWidth; ++k) {
        sum[k] = fmaf(g[k], gain[k], sum[k]);
        sum_away[k] = fmaf(g[k] * gain[k], x[k] - center, sum_away[k]);
      }
    }
    for (int k = 1; k < kWidth; ++k) sum[0] += sum[k], sum_away[0] += sum_away[k];
    sums[lane * args.rows + row] = sum[0];
    sums_z[lane * args.rows + row] = sum_away[0] * InverseDeviation(variance[row], args.epsilon);
  }
};

// dx = inverse (dy gain - sum / cols - z sum_z / cols) with the rows' sums; an index is kWidth
// columns of a row.
template <int kWidth>
struct RowGradientKernel {
  NormArgs args;
  const float *mean, *variance, *dy, *sums, *sums_z;
  float* dx;  // may be x or dy

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto place = NormPlace::Of<kWidth, 1>(i, args);
    const float share = 1 / static_cast<float>(args.cols);
    const float inverse = InverseDeviation(variance[place.first], args.epsilon);
    const float center = mean[place.first];
    const float a = sums[place.first] * share, b = sums_z[place.first] * share * inverse;
    const auto x = Neighbours<kWidth>::At(args.x + i * kWidth);
    const auto gain = Neighbours<kWidth>::At(args.gain + place.column);
    auto g = Neighbours<kWidth>::At(dy + i * kWidth);
    for (int k = 0; k < kWidth; ++k) {
      g[k] = inverse * fmaf(center - x[k], b, fmaf(g[k], gain[k], -a));
    }
    g.Store(dx + i * kWidth);
  }
};

}  // namespace muster::gpu
