// The CPU's operations, by file: op_cpu.cc (element-wise, pooling, loss), matmul_cpu.cc,
// conv_cpu.cc. Only device_cpu.cc includes this.
#pragma once

#include "kernels/device_ops.h"

namespace muster::cpu {

void MatMul(Stream& stream, const MatMulShape& shape, const float* a, const float* b, float beta,
            float* c);
void AddBias(Stream& stream, int64_t rows, int64_t columns, const float* bias, float* y);
void BiasGrad(Stream& stream, int64_t rows, int64_t columns, const float* dy, float* d_bias);
void Conv2dForward(Stream& stream, const Conv2dShape& shape, const float* x, const float* filter,
                   const float* bias, float* y);
void Conv2dBackwardInput(Stream& stream, const Conv2dShape& shape, const float* filter,
                         const float* dy, float* dx);
void Conv2dBackwardFilter(Stream& stream, const Conv2dShape& shape, const float* x, const float* dy,
                          float* d_filter, float* d_bias);
void Relu(Stream& stream, int64_t size, const float* x, float* y);
void ReluGrad(Stream& stream, int64_t size, const float* y, const float* dy, float* dx);
void Dropout(Stream& stream, int64_t size, float keep, PhiloxKey key, const float* x, float* y);
void ReluDropoutGrad(Stream& stream, int64_t size, float keep, const float* y, const float* dy,
                     float* dx);
void MaxPool(Stream& stream, const PoolShape& shape, const float* x, float* y);
void ReluDropoutMaxPoolGrad(Stream& stream, const PoolShape& shape, float keep, const float* y,
                            const float* dy, float* x);
float SoftmaxCrossEntropy(Stream& stream, int64_t rows, int64_t classes, const float* logits,
                          const int32_t* labels, float* d_logits);

}  // namespace muster::cpu
