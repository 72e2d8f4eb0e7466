// DeviceOps: the table of operations that a Device owns. op.h says what each does; this is only
// their list.
#pragma once

#include "kernels/op.h"

namespace muster {

struct DeviceOps {
  decltype(&MatMul) mat_mul;
  decltype(&AddBias) add_bias;
  decltype(&BiasGrad) bias_grad;
  decltype(&Conv2dForward) conv2d_forward;
  decltype(&Conv2dBackwardInput) conv2d_backward_input;
  decltype(&Conv2dBackwardFilter) conv2d_backward_filter;
  decltype(&Relu) relu;
  decltype(&ReluGrad) relu_grad;
  decltype(&Dropout) dropout;
  decltype(&ReluDropoutGrad) relu_dropout_grad;
  decltype(&MaxPool) max_pool;
  decltype(&ReluDropoutMaxPoolGrad) relu_dropout_max_pool_grad;
  decltype(&SoftmaxCrossEntropy) softmax_cross_entropy;
};

}  // namespace muster
