#include "worker/layers/conv2d.h"

namespace muster::worker {

Conv2d::Conv2d(std::string name, std::string prefix, const Conv2dShape& shape, bool same)
    : Layer(std::move(name), shape.in_height * shape.in_width * shape.in_channels,
            shape.out_height * shape.out_width * shape.out_channels),
      prefix_(std::move(prefix)),
      shape_(shape),
      same_(same) {
  shape_.relu = true;
}

std::vector<ps::ParamSpec> Conv2d::params() const {
  ps::ParamSpec weights, bias;
  weights.name = prefix_ + "weights";
  weights.shape = {shape_.kernel_height, shape_.kernel_width, shape_.in_channels,
                   shape_.out_channels};
  weights.init = {ps::Init::Kind::kTruncatedNormal, 0.01f};
  bias.name = prefix_ + "bias";
  bias.shape = {shape_.out_channels};
  bias.decay = false;
  return {weights, bias};
}

void Conv2d::Forward(const Pass& pass, const float* x, float* y) {
  shape_.batch = pass.batch;
  Conv2dForward(pass.stream, shape_, x, pass.weights[0], pass.weights[1], y);
}

void Conv2d::Backward(const Pass& pass, const float* x, const float* /*y*/, const float* dy,
                      float* dx, const std::function<void(int param)>& done) {
  shape_.batch = pass.batch;
  Conv2dBackwardFilter(pass.stream, shape_, x, dy, pass.grads[0], pass.grads[1]);
  done(1);
  if (dx != nullptr) Conv2dBackwardInput(pass.stream, shape_, pass.weights[0], dy, dx);
  done(0);
}

std::vector<LayerDescription> Conv2d::Describe() const {
  const std::vector<int64_t> in = {shape_.in_height, shape_.in_width, shape_.in_channels};
  const std::vector<int64_t> out = {shape_.out_height, shape_.out_width, shape_.out_channels};
  return {{"conv2d",
           name(),
           in,
           out,
           {{"stride_h", shape_.stride_height},
            {"stride_w", shape_.stride_width},
            {"same", same_ ? 1 : 0}},
           {prefix_ + "weights", prefix_ + "bias"}},
          {"relu", name() + "_relu", out, out, {}, {}}};
}

double Conv2d::flops_per_sample(bool first) const {
  const auto products = static_cast<double>(output_size()) *
                        static_cast<double>(shape_.kernel_height * shape_.kernel_width) *
                        static_cast<double>(shape_.in_channels);
  return 2.0 * products * (first ? 2 : 3);
}

}  // namespace muster::worker
