// tiny_conv: one convolution with stride 2 and 8 filters, then softmax regression; TensorFlow's
// model for microcontrollers.
//
//   [98, 40, 1] → conv 10 x 8 / 2, 8 → [49, 20, 8] → relu, dropout → dense → [12]
#include "worker/layers/conv2d.h"
#include "worker/layers/dense.h"
#include "worker/layers/relu_dropout.h"
#include "worker/models/models.h"
#include "worker/models/sequential.h"

namespace muster::worker {

std::unique_ptr<Model> MakeTinyConv(const ImageModelSettings& s, Device& device) {
  std::vector<std::unique_ptr<Layer>> layers;
  const auto shape = [&layers] { return layers.back()->output_shape(); };
  layers.push_back(std::make_unique<Conv2d>("first_conv", "first_", Shape{s.frames, s.bins, 1},
                                            Extent{10, 8}, Extent{2, 2}, Padding::kSame, 8));
  layers.push_back(std::make_unique<ReluDropout>("first_relu", shape(), s.dropout));
  layers.push_back(std::make_unique<Dense>("logits", "final_fc_", shape(), s.classes));
  return std::make_unique<Sequential>(device, std::move(layers));
}

}  // namespace muster::worker
