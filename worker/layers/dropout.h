// Dropout: in training each element is dropped with probability `rate`, and divided by 1 - rate if
// it stays; in inference nothing happens.
//
// Which stay is a function of (seed, layer, step, replica, sample in the batch, element) alone
// (kernels/dropout_bits.h), so the gradient draws the same again instead of keeping a mask. Source:
// Srivastava et al.: "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15,
// 2014 (inverted form).
#pragma once

#include "worker/layers/layer.h"

namespace muster::worker {

// The draw of layer `name` in this pass; rate 0 outside training.
DropoutArgs DropoutOf(const Pass& pass, const std::string& name, float rate);

class Dropout : public Layer {
 public:
  Dropout(std::string name, const Shape& shape, float rate)
      : Layer(std::move(name), shape, shape), rate_(rate) {}

  bool in_place() const override { return true; }
  void Forward(const Pass& pass, ConstTensor x, Tensor y) override;
  void Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                const OnLayerGrad& on_grad) override;
  std::vector<LayerDescription> Describe() const override { return {}; }

 private:
  const float rate_;
};

}  // namespace muster::worker
