// The operations of Muster's layers, on whatever device their stream has.
//
// Free functions, thread-safe for different streams. All tensors are dense float32, row-major, and
// lie on the stream's device; images are [batch, height, width, channels], filters [kernel_height,
// kernel_width, in, out] as TensorFlow has them. Outputs are overwritten unless said otherwise and
// overlap no input unless said otherwise. Every operation is deterministic for a given device and
// number of threads.
#pragma once

#include <cstdint>

#include "kernels/device.h"
#include "kernels/philox.h"

namespace muster {

// c = op(a) op(b) + beta * c, with op(a) [m, n_inner] and op(b) [n_inner, n]; c is [m, n]. `trans`
// transposes the stored matrix.
struct MatMulShape {
  int64_t m = 0, n = 0, k = 0;
  bool trans_a = false;  // a is stored as [k, m], else [m, k]
  bool trans_b = false;  // b is stored as [n, k], else [k, n]
};
void MatMul(Stream& stream, const MatMulShape& shape, const float* a, const float* b, float beta,
            float* c);

// y[r, c] += bias[c] over [rows, columns].
void AddBias(Stream& stream, int64_t rows, int64_t columns, const float* bias, float* y);
// d_bias[c] = sum over r of dy[r, c].
void BiasGrad(Stream& stream, int64_t rows, int64_t columns, const float* dy, float* d_bias);

// A two-dimensional cross-correlation with padding. TensorFlow's SAME: out = ceil(in / stride),
// pad_total = max((out - 1) * stride + kernel - in, 0), of which the smaller half is before. VALID:
// no padding, out = ceil((in - kernel + 1) / stride).
struct Conv2dShape {
  int64_t batch = 0;
  int64_t in_height = 0, in_width = 0, in_channels = 0;
  int64_t kernel_height = 0, kernel_width = 0;
  int64_t out_height = 0, out_width = 0, out_channels = 0;
  int64_t stride_height = 1, stride_width = 1;
  int64_t pad_top = 0, pad_left = 0;  // before; what is missing after is implied
  bool relu = false;                  // Forward ends with max(0, ·)
};
// The shape for the given input and filter, with SAME or VALID padding.
Conv2dShape MakeConv2dShape(int64_t in_height, int64_t in_width, int64_t in_channels,
                            int64_t kernel_height, int64_t kernel_width, int64_t out_channels,
                            int64_t stride_height, int64_t stride_width, bool same);

// y = conv(x, filter) + bias, then relu if asked.
void Conv2dForward(Stream& stream, const Conv2dShape& shape, const float* x, const float* filter,
                   const float* bias, float* y);
// dx from dy (the gradient before relu).
void Conv2dBackwardInput(Stream& stream, const Conv2dShape& shape, const float* filter,
                         const float* dy, float* dx);
// d_filter and d_bias from x and dy (the gradient before relu).
void Conv2dBackwardFilter(Stream& stream, const Conv2dShape& shape, const float* x, const float* dy,
                          float* d_filter, float* d_bias);

// y = max(0, x); y may be x.
void Relu(Stream& stream, int64_t size, const float* x, float* y);
// dx = y > 0 ? dy : 0, with y the result of Relu; dx may be dy.
void ReluGrad(Stream& stream, int64_t size, const float* y, const float* dy, float* dx);

// Inverted dropout: element i survives when the uniform number of (key, i) is below `keep`, and is
// divided by it. y may be x.
void Dropout(Stream& stream, int64_t size, float keep, PhiloxKey key, const float* x, float* y);
// Gradient of Dropout(Relu(x)), which y > 0 tells without the mask: dx = y > 0 ? dy / keep : 0; dx
// may be dy.
void ReluDropoutGrad(Stream& stream, int64_t size, float keep, const float* y, const float* dy,
                     float* dx);

// Max over 2 x 2 windows with stride 2, SAME padding (a window may hang over the edge). Shapes:
// [batch, height, width, channels] to [batch, ceil(height / 2), ceil(width / 2), channels].
struct PoolShape {
  int64_t batch = 0, height = 0, width = 0, channels = 0;
  int64_t out_height() const { return (height + 1) / 2; }
  int64_t out_width() const { return (width + 1) / 2; }
};
void MaxPool(Stream& stream, const PoolShape& shape, const float* x, float* y);
// Gradient of MaxPool(Dropout(Relu(·))) in one pass over the largest activation: dy goes to the
// first maximum of its window, divided by `keep`, if that maximum is > 0. `x` is the input of the
// forward pass and is overwritten by its gradient; `y` is its output.
void ReluDropoutMaxPoolGrad(Stream& stream, const PoolShape& shape, float keep, const float* y,
                            const float* dy, float* x);

// Returns the mean over rows of -log softmax(logits)[label]; with `d_logits` not null also its
// gradient. logits [rows, classes].
float SoftmaxCrossEntropy(Stream& stream, int64_t rows, int64_t classes, const float* logits,
                          const int32_t* labels, float* d_logits);

}  // namespace muster
