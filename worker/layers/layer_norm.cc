#include "worker/layers/layer_norm.h"

namespace muster::worker {
namespace {

constexpr float kEpsilon = 1e-5f;

}  // namespace

std::vector<ps::ParamSpec> LayerNorm::params() const {
  return {GainSpec(prefix_ + "gain", input_shape().size()),
          BiasSpec(prefix_ + "offset", input_shape().size())};
}

absl::Status LayerNorm::Prepare(Device& device, int64_t max_batch) {
  ASSIGN_OR_RETURN(mean_, Buffer::Make(device, max_batch * SizeOf(DType::kFloat32)));
  ASSIGN_OR_RETURN(variance_, Buffer::Make(device, max_batch * SizeOf(DType::kFloat32)));
  return absl::OkStatus();
}

void LayerNorm::Forward(const Pass& pass, ConstTensor x, Tensor y) {
  muster::LayerNorm(pass.stream, kEpsilon, x, pass.weights[0], pass.weights[1],
                    {mean_.data<float>(), {x.dim(0)}}, {variance_.data<float>(), {x.dim(0)}}, y);
}

void LayerNorm::Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                         const OnLayerGrad& on_grad) {
  LayerNormGradient(pass.stream, kEpsilon, x, pass.weights[0], {mean_.data<float>(), {x.dim(0)}},
                    {variance_.data<float>(), {x.dim(0)}}, dy, pass.grads[0], pass.grads[1],
                    want_dx ? x : Tensor());
  on_grad(1);
  on_grad(0);
}

std::vector<LayerDescription> LayerNorm::Describe() const {
  LayerDescription layer = Description("layer_norm");
  layer.epsilon = kEpsilon;
  layer.params = {prefix_ + "gain", prefix_ + "offset"};
  return {layer};
}

}  // namespace muster::worker
