#include "worker/layers/dense.h"

#include <algorithm>

namespace muster::worker {

Dense::Dense(std::string name, std::string prefix, int64_t in, int64_t out)
    : Layer(std::move(name), in, out), prefix_(std::move(prefix)) {}

std::vector<ps::ParamSpec> Dense::params() const {
  ps::ParamSpec weights, bias;
  weights.name = prefix_ + "weights";
  weights.shape = {input_size(), output_size()};
  weights.init = {ps::Init::Kind::kTruncatedNormal, 0.01f};
  bias.name = prefix_ + "bias";
  bias.shape = {output_size()};
  bias.decay = false;
  return {weights, bias};
}

void Dense::Forward(const Pass& pass, const float* x, float* y) {
  MatMul(pass.stream, {.m = pass.batch, .n = output_size(), .k = input_size()}, x, pass.weights[0],
         0.0f, y);
  AddBias(pass.stream, pass.batch, output_size(), pass.weights[1], y);
}

void Dense::Backward(const Pass& pass, const float* x, const float* /*y*/, const float* dy,
                     float* dx, const std::function<void(int param)>& done) {
  BiasGrad(pass.stream, pass.batch, output_size(), dy, pass.grads[1]);
  done(1);
  MatMul(pass.stream, {.m = input_size(), .n = output_size(), .k = pass.batch, .trans_a = true}, x,
         dy, 0.0f, pass.grads[0]);
  if (dx != nullptr) {
    MatMul(pass.stream, {.m = pass.batch, .n = input_size(), .k = output_size(), .trans_b = true},
           dy, pass.weights[0], 0.0f, dx);
  }
  done(0);
}

std::vector<LayerDescription> Dense::Describe() const {
  return {{"dense",
           name(),
           {input_size()},
           {output_size()},
           {},
           {prefix_ + "weights", prefix_ + "bias"}}};
}

double Dense::flops_per_sample(bool first) const {
  return 2.0 * static_cast<double>(input_size()) * static_cast<double>(output_size()) *
         (first ? 2 : 3);
}

}  // namespace muster::worker
