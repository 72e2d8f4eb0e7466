// tiny_conv: one convolution with stride 2 and 8 filters, then softmax regression; TensorFlow's
// model for microcontrollers.
//
//   [98, 40, 1] → conv 10 x 8 / 2, 8 → [49, 20, 8] → dropout → dense → [12]
#include "worker/layers/conv2d.h"
#include "worker/layers/dense.h"
#include "worker/layers/dropout.h"
#include "worker/models/models.h"
#include "worker/models/sequential.h"

namespace muster::worker {

std::unique_ptr<Model> MakeTinyConv(const ImageModelSettings& s, Device& device) {
  const Conv2dShape first = MakeConv2dShape(s.frames, s.bins, 1, 10, 8, 8, 2, 2, /*same=*/true);
  std::vector<std::unique_ptr<Layer>> layers;
  layers.push_back(std::make_unique<Conv2d>("first_conv", "first_", first, true));
  const int64_t size = layers.back()->output_size();
  layers.push_back(std::make_unique<ReluDropout>("first_dropout", size, s.keep));
  layers.push_back(std::make_unique<Dense>("logits", "final_fc_", size, s.classes));
  return std::make_unique<Sequential>(device, std::move(layers));
}

}  // namespace muster::worker
