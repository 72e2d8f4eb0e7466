#include "worker/layers/batch_norm.h"

namespace muster::worker {
namespace {

constexpr float kEpsilon = 1e-5f;
constexpr float kMomentum = 0.9f;

ps::ParamSpec StatisticSpec(std::string name, int64_t channels, float first) {
  ps::ParamSpec spec = BiasSpec(std::move(name), channels);
  spec.kind = ps::ParamSpec::Kind::kStatistic;
  spec.init = {ps::Init::Kind::kConstant, first};
  spec.momentum = kMomentum;
  return spec;
}

}  // namespace

BatchNorm::BatchNorm(std::string name, std::string prefix, const Shape& shape)
    : Layer(std::move(name), shape, shape),
      prefix_(std::move(prefix)),
      channels_(shape[shape.rank() - 1]) {}

std::vector<ps::ParamSpec> BatchNorm::params() const {
  return {GainSpec(prefix_ + "gain", channels_), BiasSpec(prefix_ + "offset", channels_),
          StatisticSpec(prefix_ + "mean", channels_, 0),
          StatisticSpec(prefix_ + "variance", channels_, 1)};
}

absl::Status BatchNorm::Prepare(Device& device, int64_t) {
  ASSIGN_OR_RETURN(mean_, Buffer::Make(device, channels_ * SizeOf(DType::kFloat32)));
  ASSIGN_OR_RETURN(variance_, Buffer::Make(device, channels_ * SizeOf(DType::kFloat32)));
  return absl::OkStatus();
}

void BatchNorm::Forward(const Pass& pass, ConstTensor x, Tensor y) {
  const auto& w = pass.weights;
  if (pass.training) {
    muster::BatchNorm(pass.stream, kEpsilon, x, w[0], w[1], Mean(), Variance(), y);
  } else {
    BatchNormInference(pass.stream, kEpsilon, x, w[0], w[1], w[2], w[3], y);
  }
}

void BatchNorm::Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                         const OnLayerGrad& on_grad) {
  BatchNormGradient(pass.stream, kEpsilon, x, pass.weights[0], Mean(), Variance(), dy,
                    pass.grads[0], pass.grads[1], want_dx ? x : Tensor());
  const int64_t whole = pass.whole_batch > 0 ? pass.whole_batch : x.dim(0);
  const float share = static_cast<float>(x.dim(0)) / static_cast<float>(whole);
  Fill(pass.stream, 0, pass.grads[2]);
  Axpy(pass.stream, share, Mean(), pass.grads[2]);
  Fill(pass.stream, 0, pass.grads[3]);
  Axpy(pass.stream, share, Variance(), pass.grads[3]);
  for (const int param : {3, 2, 1, 0}) on_grad(param);
}

std::vector<LayerDescription> BatchNorm::Describe() const {
  LayerDescription layer = Description("batch_norm");
  layer.epsilon = kEpsilon;
  layer.params = {prefix_ + "gain", prefix_ + "offset", prefix_ + "mean", prefix_ + "variance"};
  return {layer};
}

}  // namespace muster::worker
