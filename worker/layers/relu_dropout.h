// ReluDropout: y = dropout(max(x, 0)) in one pass over the activations; rate 0 is a plain relu. See
// dropout.h.
//
//   dx = dy / (1 - rate) where y ≠ 0, else 0:
//   one bit for each element is kept, because dy takes y's place
#pragma once

#include "worker/layers/layer.h"

namespace muster::worker {

class ReluDropout : public Layer {
 public:
  ReluDropout(std::string name, const Shape& shape, float rate)
      : Layer(std::move(name), shape, shape), rate_(rate) {}

  bool in_place() const override { return true; }
  absl::Status Prepare(Device& device, int64_t max_batch) override;
  void Forward(const Pass& pass, ConstTensor x, Tensor y) override;
  bool takes_bias() const override { return true; }
  void Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                const OnLayerGrad& on_grad) override;
  std::vector<LayerDescription> Describe() const override { return {Description("relu")}; }

 private:
  Tensor Mask(int64_t batch) const;

  const float rate_;
  Buffer mask_;  // uint32 [max_batch, MaskWords]
};

}  // namespace muster::worker
