// Dense: y = x W + b.   x [in], W [in, out], b [out], y [out]; x may have any shape of `in`
// elements
//
//   dW = xᵀ dy     db = Σ_batch dy     dx = dy Wᵀ
#pragma once

#include "worker/layers/layer.h"

namespace muster::worker {

class Dense : public Layer {
 public:
  // Parameters `<prefix>weights` (truncated normal) and `<prefix>bias` (zero).
  Dense(std::string name, std::string prefix, const Shape& input, int64_t out,
        float stddev = 0.01f);

  std::vector<ps::ParamSpec> params() const override;
  void Forward(const Pass& pass, ConstTensor x, Tensor y) override;
  void Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                const OnLayerGrad& on_grad) override;
  std::vector<LayerDescription> Describe() const override;
  double flops(bool want_dx) const override;

 private:
  const std::string prefix_;
  const float stddev_;
};

}  // namespace muster::worker
