// low_latency_conv: one convolution over the whole time axis, then three dense layers;
// "cnn-one-fstride4" of Sainath and Parada (see conv.cc), as TensorFlow has it: the dense layers
// have no activation between them.
//
//   [98, 40, 1] → conv 98 x 8 VALID, 186 → [1, 33, 186] → relu, dropout → dense 128 → dropout →
//   dense 128 → dropout → dense → [12]
#include "worker/layers/conv2d.h"
#include "worker/layers/dense.h"
#include "worker/layers/dropout.h"
#include "worker/layers/relu_dropout.h"
#include "worker/models/models.h"
#include "worker/models/sequential.h"

namespace muster::worker {

std::unique_ptr<Model> MakeLowLatencyConv(const ImageModelSettings& s, Device& device) {
  std::vector<std::unique_ptr<Layer>> layers;
  const auto shape = [&layers] { return layers.back()->output_shape(); };
  layers.push_back(std::make_unique<Conv2d>("first_conv", "first_", Shape{s.frames, s.bins, 1},
                                            Extent{s.frames, 8}, Extent{1, 1}, Padding::kValid,
                                            186));
  layers.push_back(std::make_unique<ReluDropout>("first_relu", shape(), s.dropout));
  layers.push_back(std::make_unique<Dense>("first_fc", "first_fc_", shape(), 128));
  layers.push_back(std::make_unique<Dropout>("first_fc_dropout", shape(), s.dropout));
  layers.push_back(std::make_unique<Dense>("second_fc", "second_fc_", shape(), 128));
  layers.push_back(std::make_unique<Dropout>("second_fc_dropout", shape(), s.dropout));
  layers.push_back(std::make_unique<Dense>("logits", "final_fc_", shape(), s.classes));
  return std::make_unique<Sequential>(device, std::move(layers));
}

}  // namespace muster::worker
