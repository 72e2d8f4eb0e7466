// The inner loops of the cpu's norms, compiled for each instruction set and picked at run time
// (Highway). Names as in device_ops.h; `inverse` is 1 / sqrt(variance + epsilon).
//
// Internal to the cpu device. Free functions, thread-safe; each works on the calling thread alone.
// float32; sums have one order for each instruction set.
#pragma once

#include <cstdint>

namespace muster::simd {

// Of the columns of x [rows, cols]: the mean, and the sum of the squares of what x differs by.
void ColumnMoments(int64_t rows, int64_t cols, const float* x, float* mean, float* squares);

// y[i, j] = (x[i, j] - mean[j]) scale[j] + offset[j]; y may be x.
void NormalizeColumns(int64_t rows, int64_t cols, const float* x, const float* mean,
                      const float* scale, const float* offset, float* y);

// dgain[j] = Σ_i dy[i, j] (x[i, j] - mean[j]) inverse[j]; doffset[j] = Σ_i dy[i, j].
void ColumnGradientSums(int64_t rows, int64_t cols, const float* x, const float* dy,
                        const float* mean, const float* inverse, float* dgain, float* doffset);

// dx[i, j] = scale[j] (dy[i, j] - a[j] - (x[i, j] - mean[j]) b[j]); dx may be x or dy.
void ColumnGradient(int64_t rows, int64_t cols, const float* x, const float* dy, const float* mean,
                    const float* scale, const float* a, const float* b, float* dx);

struct RowMoments {
  float mean, variance;
};
RowMoments MomentsOfRow(int64_t n, const float* x);

// y[j] = (x[j] - mean) inverse gain[j] + offset[j]
void NormalizeRow(int64_t n, const float* x, float mean, float inverse, const float* gain,
                  const float* offset, float* y);

// With z = (x - mean) inverse and g = dy gain: dgain += dy z, doffset += dy, and Σ g, Σ g z.
struct RowGradientSums {
  float g, gz;
};
RowGradientSums GradientSumsOfRow(int64_t n, const float* x, const float* dy, const float* gain,
                                  float mean, float inverse, float* dgain, float* doffset);

// dx[j] = inverse (dy[j] gain[j] - a - (x[j] - mean) b); dx may be x or dy.
void RowGradient(int64_t n, const float* x, const float* dy, const float* gain, float mean,
                 float inverse, float a, float b, float* dx);

}  // namespace muster::simd
