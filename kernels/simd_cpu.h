// The element-wise inner loops of the cpu ops, compiled for each instruction set and picked at run
// time (Highway).
//
// Internal to the cpu device. Free functions, thread-safe; each works on the calling thread alone.
// float32.
#pragma once

#include <cstdint>

#include "kernels/device_ops.h"

namespace muster::simd {

// y[i] = x[i] > 0 and bit i of keep ? scale * x[i] : 0; y may be x. `keep` null keeps all. `mask`,
// if not null, gets the bits y[i] != 0, unused ones of the last word cleared.
void ReluKeep(int64_t n, const uint32_t* keep, float scale, const float* x, float* y,
              uint32_t* mask);

// y[i] = bit i of keep ? scale * x[i] : 0; y may be x.
void Keep(int64_t n, const uint32_t* keep, float scale, const float* x, float* y);

void Add(int64_t n, const float* x, float* y);                     // y += x
void Axpy(int64_t n, float a, const float* x, float* y);           // y += a x
void Mul(int64_t n, const float* a, const float* b, float* y);     // y = a b
void AddMul(int64_t n, const float* a, const float* b, float* y);  // y += a b, rounded once

// sum[j] += x[0, j] + … + x[rows - 1, j] over [rows, cols].
void SumRows(int64_t rows, int64_t cols, const float* x, float* sum);

// y[p] = table[ids[p]], rows of `width`.
void CopyRows(int64_t n, const int32_t* ids, int64_t width, const float* table, float* y);
// table[ids[p], j] += x[p, j] for j < cols, p by p; rows of both begin `width` apart.
void AddToRows(int64_t n, const int32_t* ids, int64_t width, int64_t cols, const float* x,
               float* table);

// Output row i of the pool of one image. `keep`: dropout's bits of the image's elements from
// `keep_from` on (a multiple of 8), 8 bytes longer than needed; null keeps all. `y` and `winners`
// (may be null): that row.
void PoolRow(const PoolArgs& pool, int64_t i, const float* image, const uint8_t* keep,
             int64_t keep_from, float* y, uint8_t* winners);
// The gradient of row i, into the gradient of the image: written where windows do not overlap,
// added where they do.
void PoolRowGradient(const PoolArgs& pool, int64_t i, bool overlap, const uint8_t* winners,
                     const float* dy, float* dimage);

}  // namespace muster::simd
