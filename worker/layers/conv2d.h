// Conv2d: a cross-correlation of images with TensorFlow's SAME or VALID padding.
//
//   x [in.h, in.w, in]   w [kernel.h, kernel.w, in, out]   b [out]   y [out.h, out.w, out]
//   y[i, j, o] = b[o] + Σ_{a, b, c} x[i · stride.h + a - pad.h, j · stride.w + b - pad.w, c] ·
//                                   w[a, b, c, o]
#pragma once

#include <memory>

#include "worker/layers/layer.h"

namespace muster::worker {

class Conv2d : public Layer {
 public:
  // Parameters `<prefix>weights` (truncated normal, stddev 0.01) and, with `has_bias`,
  // `<prefix>bias` (zero; without it b is 0). `input` is [height, width, channels]. PRECONDITION:
  // with VALID padding the kernel is not larger than the image.
  Conv2d(std::string name, std::string prefix, const Shape& input, Extent kernel, Extent stride,
         Padding padding, int64_t out_channels, bool has_bias = true);

  std::vector<ps::ParamSpec> params() const override;
  absl::Status Prepare(Device& device, int64_t max_batch) override;
  void Forward(const Pass& pass, ConstTensor x, Tensor y) override;
  std::optional<int> LeaveBias() override;
  void Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                const OnLayerGrad& on_grad) override;
  std::vector<LayerDescription> Describe() const override;
  double flops(bool want_dx) const override;

 private:
  const std::string prefix_;
  const Padding padding_;
  const Conv2dArgs args_;
  const bool has_bias_;
  bool leaves_bias_ = false;
  std::unique_ptr<Conv2dPlan> plan_;
};

}  // namespace muster::worker
