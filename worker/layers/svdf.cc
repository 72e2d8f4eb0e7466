#include "worker/layers/svdf.h"

namespace muster::worker {

Svdf::Svdf(std::string name, int64_t frames, int64_t features, int64_t units, int64_t rank)
    : Layer(std::move(name), {frames, features}, {units}),
      frames_(frames),
      features_(features),
      units_(units),
      rank_(rank) {}

std::vector<ps::ParamSpec> Svdf::params() const {
  return {WeightSpec("weights_frequency", {features_, units_ * rank_}, 0.01f),
          WeightSpec("weights_time", {frames_, units_ * rank_}, 0.01f), BiasSpec("bias", units_)};
}

absl::Status Svdf::Prepare(Device& device, int64_t) {
  ASSIGN_OR_RETURN(matrix_,
                   Buffer::Make(device, frames_ * features_ * units_ * SizeOf(DType::kFloat32)));
  return absl::OkStatus();
}

Tensor Svdf::Matrix() const { return {matrix_.data<float>(), {frames_ * features_, units_}}; }

void Svdf::Forward(const Pass& pass, ConstTensor x, Tensor y) {
  SvdfExpand(pass.stream, rank_, pass.weights[0], pass.weights[1], Matrix());
  MatMul(pass.stream, x.Reshape({x.dim(0), frames_ * features_}), Matrix(), y,
         {.bias = pass.weights[2]});
}

void Svdf::Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                    const OnLayerGrad& on_grad) {
  SumRows(pass.stream, dy, pass.grads[2]);
  on_grad(2);
  const Tensor rows = x.Reshape({x.dim(0), frames_ * features_});
  MatMul(pass.stream, rows, dy, Matrix(), {.trans_a = true});
  SvdfContract(pass.stream, rank_, pass.weights[0], pass.weights[1], Matrix(), pass.grads[0],
               pass.grads[1]);
  if (want_dx) {
    SvdfExpand(pass.stream, rank_, pass.weights[0], pass.weights[1], Matrix());
    MatMul(pass.stream, dy, Matrix(), rows, {.trans_b = true});
  }
  on_grad(1);
  on_grad(0);
}

std::vector<LayerDescription> Svdf::Describe() const {
  LayerDescription layer = Description("svdf");
  layer.numbers = {{"rank", rank_}};
  layer.params = {"weights_frequency", "weights_time", "bias"};
  return {layer};
}

double Svdf::flops(bool want_dx) const {
  const auto cells = static_cast<double>(frames_ * features_ * units_);
  return 2.0 * cells * (want_dx ? 3 : 2);
}

}  // namespace muster::worker
