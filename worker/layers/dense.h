// Dense: y = x W + b.   W [in, out], b [out]
//
//   dW = xᵀ dy     db = Σ_batch dy     dx = dy Wᵀ
#pragma once

#include "worker/layers/layer.h"

namespace muster::worker {

class Dense : public Layer {
 public:
  // Parameters `<prefix>weights` (truncated normal, stddev 0.01) and `<prefix>bias` (zero).
  Dense(std::string name, std::string prefix, int64_t in, int64_t out);
  std::vector<ps::ParamSpec> params() const override;
  void Forward(const Pass& pass, const float* x, float* y) override;
  void Backward(const Pass& pass, const float* x, const float* y, const float* dy, float* dx,
                const std::function<void(int param)>& done) override;
  std::vector<LayerDescription> Describe() const override;
  double flops_per_sample(bool first) const override;

 private:
  const std::string prefix_;
};

}  // namespace muster::worker
