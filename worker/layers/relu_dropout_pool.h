// ReluDropoutPool: y = maxpool(dropout(max(x, 0))) in one pass over what is the largest activation
// of a model. See dropout.h.
//
//   x [height, width, channels]   y [⌈height / stride⌉, ⌈width / stride⌉, channels]
//   windows as TensorFlow's SAME padding lays them
//   dx = dy / (1 - rate) at the first maximum of each window if that is > 0, else 0:
//   the winner's place is kept, one byte for each y
#pragma once

#include "worker/layers/layer.h"

namespace muster::worker {

class ReluDropoutPool : public Layer {
 public:
  ReluDropoutPool(std::string name, const Shape& input, Extent window, Extent stride, float rate);

  absl::Status Prepare(Device& device, int64_t max_batch) override;
  void Forward(const Pass& pass, ConstTensor x, Tensor y) override;
  bool takes_bias() const override { return true; }
  void Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                const OnLayerGrad& on_grad) override;
  std::vector<LayerDescription> Describe() const override;

 private:
  PoolArgs ArgsOf(const Pass& pass) const;
  Tensor Winners(int64_t batch) const;

  const Window window_;
  const float rate_;
  Buffer winners_;  // uint8 [max_batch, output_shape]
};

}  // namespace muster::worker
