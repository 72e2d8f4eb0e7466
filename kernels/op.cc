#include "kernels/op.h"

#include "kernels/device_ops.h"

namespace muster {

void MatMul(Stream& stream, const MatMulShape& shape, const float* a, const float* b, float beta,
            float* c) {
  stream.device().ops().mat_mul(stream, shape, a, b, beta, c);
}

void AddBias(Stream& stream, int64_t rows, int64_t columns, const float* bias, float* y) {
  stream.device().ops().add_bias(stream, rows, columns, bias, y);
}

void BiasGrad(Stream& stream, int64_t rows, int64_t columns, const float* dy, float* d_bias) {
  stream.device().ops().bias_grad(stream, rows, columns, dy, d_bias);
}

Conv2dShape MakeConv2dShape(int64_t in_height, int64_t in_width, int64_t in_channels,
                            int64_t kernel_height, int64_t kernel_width, int64_t out_channels,
                            int64_t stride_height, int64_t stride_width, bool same) {
  struct Axis {
    int64_t out, pad;
  };
  const auto axis = [same](int64_t in, int64_t kernel, int64_t stride) -> Axis {
    if (!same) return {(in - kernel) / stride + 1, 0};
    const int64_t out = (in + stride - 1) / stride;
    const int64_t total = (out - 1) * stride + kernel - in;
    return {out, total > 0 ? total / 2 : 0};
  };
  const Axis rows = axis(in_height, kernel_height, stride_height);
  const Axis columns = axis(in_width, kernel_width, stride_width);
  Conv2dShape shape;
  shape.in_height = in_height;
  shape.in_width = in_width;
  shape.in_channels = in_channels;
  shape.kernel_height = kernel_height;
  shape.kernel_width = kernel_width;
  shape.out_height = rows.out;
  shape.out_width = columns.out;
  shape.out_channels = out_channels;
  shape.stride_height = stride_height;
  shape.stride_width = stride_width;
  shape.pad_top = rows.pad;
  shape.pad_left = columns.pad;
  return shape;
}

void Conv2dForward(Stream& stream, const Conv2dShape& shape, const float* x, const float* filter,
                   const float* bias, float* y) {
  stream.device().ops().conv2d_forward(stream, shape, x, filter, bias, y);
}

void Conv2dBackwardInput(Stream& stream, const Conv2dShape& shape, const float* filter,
                         const float* dy, float* dx) {
  stream.device().ops().conv2d_backward_input(stream, shape, filter, dy, dx);
}

void Conv2dBackwardFilter(Stream& stream, const Conv2dShape& shape, const float* x, const float* dy,
                          float* d_filter, float* d_bias) {
  stream.device().ops().conv2d_backward_filter(stream, shape, x, dy, d_filter, d_bias);
}

void Relu(Stream& stream, int64_t size, const float* x, float* y) {
  stream.device().ops().relu(stream, size, x, y);
}

void ReluGrad(Stream& stream, int64_t size, const float* y, const float* dy, float* dx) {
  stream.device().ops().relu_grad(stream, size, y, dy, dx);
}

void Dropout(Stream& stream, int64_t size, float keep, PhiloxKey key, const float* x, float* y) {
  stream.device().ops().dropout(stream, size, keep, key, x, y);
}

void ReluDropoutGrad(Stream& stream, int64_t size, float keep, const float* y, const float* dy,
                     float* dx) {
  stream.device().ops().relu_dropout_grad(stream, size, keep, y, dy, dx);
}

void MaxPool(Stream& stream, const PoolShape& shape, const float* x, float* y) {
  stream.device().ops().max_pool(stream, shape, x, y);
}

void ReluDropoutMaxPoolGrad(Stream& stream, const PoolShape& shape, float keep, const float* y,
                            const float* dy, float* x) {
  stream.device().ops().relu_dropout_max_pool_grad(stream, shape, keep, y, dy, x);
}

float SoftmaxCrossEntropy(Stream& stream, int64_t rows, int64_t classes, const float* logits,
                          const int32_t* labels, float* d_logits) {
  return stream.device().ops().softmax_cross_entropy(stream, rows, classes, logits, labels,
                                                     d_logits);
}

}  // namespace muster
