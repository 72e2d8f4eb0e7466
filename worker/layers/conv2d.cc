#include "worker/layers/conv2d.h"

namespace muster::worker {
namespace {

Conv2dArgs ArgsOf(const Shape& input, Extent kernel, Extent stride, Padding padding,
                  int64_t out_channels) {
  CHECK_EQ(input.rank(), 3);
  return {Window::Make({input[0], input[1]}, kernel, stride, padding), input[2], out_channels};
}

Shape OutputOf(const Conv2dArgs& args) {
  CHECK(args.window.out.h > 0 && args.window.out.w > 0);
  return {args.window.out.h, args.window.out.w, args.out_channels};
}

}  // namespace

Conv2d::Conv2d(std::string name, std::string prefix, const Shape& input, Extent kernel,
               Extent stride, Padding padding, int64_t out_channels, bool has_bias)
    : Layer(std::move(name), input, OutputOf(ArgsOf(input, kernel, stride, padding, out_channels))),
      prefix_(std::move(prefix)),
      padding_(padding),
      args_(ArgsOf(input, kernel, stride, padding, out_channels)),
      has_bias_(has_bias) {}

std::vector<ps::ParamSpec> Conv2d::params() const {
  const Extent kernel = args_.window.kernel;
  std::vector<ps::ParamSpec> specs = {WeightSpec(
      prefix_ + "weights", {kernel.h, kernel.w, args_.in_channels, args_.out_channels}, 0.01f)};
  if (has_bias_) specs.push_back(BiasSpec(prefix_ + "bias", args_.out_channels));
  return specs;
}

absl::Status Conv2d::Prepare(Device& device, int64_t) {
  plan_ = device.ops().MakeConv2d(args_);
  return absl::OkStatus();
}

void Conv2d::Forward(const Pass& pass, ConstTensor x, Tensor y) {
  const float* const bias = has_bias_ && !leaves_bias_ ? pass.weights[1].data() : nullptr;
  plan_->Forward(pass.stream, x.dim(0), x.data(), pass.weights[0].data(), bias, y.data());
}

std::optional<int> Conv2d::LeaveBias() {
  leaves_bias_ = has_bias_ && plan_->adds_bias_apart();
  return leaves_bias_ ? std::optional(1) : std::nullopt;
}

void Conv2d::Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                      const OnLayerGrad& on_grad) {
  float* const dbias = has_bias_ ? pass.grads[1].data() : nullptr;
  plan_->BackwardWeights(pass.stream, x.dim(0), x.data(), dy.data(), pass.grads[0].data(), dbias);
  if (has_bias_) on_grad(1);
  if (want_dx) {
    plan_->BackwardData(pass.stream, x.dim(0), dy.data(), pass.weights[0].data(), x.data());
  }
  on_grad(0);
}

std::vector<LayerDescription> Conv2d::Describe() const {
  LayerDescription layer = Description("conv2d");
  layer.numbers = {{"stride_h", args_.window.stride.h},
                   {"stride_w", args_.window.stride.w},
                   {"same", padding_ == Padding::kSame ? 1 : 0}};
  layer.params = {prefix_ + "weights"};
  if (has_bias_) layer.params.push_back(prefix_ + "bias");
  return {layer};
}

double Conv2d::flops(bool want_dx) const {
  return 2.0 * static_cast<double>(output_shape().size()) * static_cast<double>(args_.patch()) *
         (want_dx ? 3 : 2);
}

}  // namespace muster::worker
