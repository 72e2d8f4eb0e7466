// LayerNorm: the features of each sample are normalised together, then scaled and moved one by one.
//
//   x, y [features], of any shape   gain, offset [features]
//   y = gain z + offset   z = (x - m) / sqrt(v + 1e-5)   m, v = mean(x), mean((x - m)²)
//   dgain = Σ_batch dy z   doffset = Σ_batch dy
//   dx = (g - mean(g) - z mean(g z)) / sqrt(v + 1e-5),  g = dy gain
//
// Means are over the features of a sample: the same in training and inference, whatever the batch.
// Source: Ba, Kiros, Hinton: "Layer Normalization", arXiv:1607.06450, 2016.
#pragma once

#include "worker/layers/layer.h"

namespace muster::worker {

class LayerNorm : public Layer {
 public:
  // Parameters `<prefix>gain` (ones) and `<prefix>offset` (zeros).
  LayerNorm(std::string name, std::string prefix, const Shape& shape)
      : Layer(std::move(name), shape, shape), prefix_(std::move(prefix)) {}

  std::vector<ps::ParamSpec> params() const override;
  absl::Status Prepare(Device& device, int64_t max_batch) override;
  void Forward(const Pass& pass, ConstTensor x, Tensor y) override;
  void Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                const OnLayerGrad& on_grad) override;
  std::vector<LayerDescription> Describe() const override;

 private:
  const std::string prefix_;
  Buffer mean_, variance_;  // of each sample, [max_batch]
};

}  // namespace muster::worker
