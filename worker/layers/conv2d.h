// Conv2d: y = relu(x ⋆ filter + b), a cross-correlation with TensorFlow's SAME or VALID padding.
//
//   x [height, width, in]   filter [kernel_height, kernel_width, in, out]   b [out]   y
//   [out_height, out_width, out]
//
// Backward takes the gradient *before* the relu: the layer behind it (ReluDropout,
// ReluDropoutMaxPool) has the relu's gradient fused with its own.
#pragma once

#include "worker/layers/layer.h"

namespace muster::worker {

class Conv2d : public Layer {
 public:
  // Parameters `<prefix>weights` (truncated normal, stddev 0.01) and `<prefix>bias` (zero). `shape`
  // by MakeConv2dShape, `same` as given to it.
  Conv2d(std::string name, std::string prefix, const Conv2dShape& shape, bool same);
  std::vector<ps::ParamSpec> params() const override;
  void Forward(const Pass& pass, const float* x, float* y) override;
  void Backward(const Pass& pass, const float* x, const float* y, const float* dy, float* dx,
                const std::function<void(int param)>& done) override;
  std::vector<LayerDescription> Describe() const override;
  double flops_per_sample(bool first) const override;

 private:
  const std::string prefix_;
  Conv2dShape shape_;
  const bool same_;
};

}  // namespace muster::worker
