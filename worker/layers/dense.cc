#include "worker/layers/dense.h"

namespace muster::worker {

Dense::Dense(std::string name, std::string prefix, const Shape& input, int64_t out, float stddev)
    : Layer(std::move(name), Shape{input.size()}, Shape{out}),
      prefix_(std::move(prefix)),
      stddev_(stddev) {}

std::vector<ps::ParamSpec> Dense::params() const {
  return {WeightSpec(prefix_ + "weights", {input_shape()[0], output_shape()[0]}, stddev_),
          BiasSpec(prefix_ + "bias", output_shape()[0])};
}

void Dense::Forward(const Pass& pass, ConstTensor x, Tensor y) {
  MatMul(pass.stream, x, pass.weights[0], y, {.bias = pass.weights[1]});
}

void Dense::Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                     const OnLayerGrad& on_grad) {
  SumRows(pass.stream, dy, pass.grads[1]);
  on_grad(1);
  MatMul(pass.stream, x, dy, pass.grads[0], {.trans_a = true});
  if (want_dx) MatMul(pass.stream, dy, pass.weights[0], x, {.trans_b = true});
  on_grad(0);
}

std::vector<LayerDescription> Dense::Describe() const {
  LayerDescription layer = Description("dense");
  layer.params = {prefix_ + "weights", prefix_ + "bias"};
  return {layer};
}

double Dense::flops(bool want_dx) const {
  return 2.0 * static_cast<double>(input_shape()[0]) * static_cast<double>(output_shape()[0]) *
         (want_dx ? 3 : 2);
}

}  // namespace muster::worker
