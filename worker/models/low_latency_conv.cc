// low_latency_conv: one convolution over the whole time axis, then three dense layers;
// "cnn-one-fstride4" of Sainath and Parada (see conv.cc), as TensorFlow has it: the dense layers
// have no activation between them.
//
//   [98, 40, 1] → conv 98 x 8 VALID, 186 → [1, 33, 186] → dropout → dense 128 → dropout → dense 128
//   → dropout → dense → [12]
#include "worker/layers/conv2d.h"
#include "worker/layers/dense.h"
#include "worker/layers/dropout.h"
#include "worker/models/models.h"
#include "worker/models/sequential.h"

namespace muster::worker {

std::unique_ptr<Model> MakeLowLatencyConv(const ImageModelSettings& s, Device& device) {
  const Conv2dShape first =
      MakeConv2dShape(s.frames, s.bins, 1, s.frames, 8, 186, 1, 1, /*same=*/false);
  std::vector<std::unique_ptr<Layer>> layers;
  layers.push_back(std::make_unique<Conv2d>("first_conv", "first_", first, false));
  const int64_t size = layers.back()->output_size();
  layers.push_back(std::make_unique<ReluDropout>("first_dropout", size, s.keep));
  layers.push_back(std::make_unique<Dense>("first_fc", "first_fc_", size, 128));
  layers.push_back(std::make_unique<Dropout>("second_dropout", 128, s.keep));
  layers.push_back(std::make_unique<Dense>("second_fc", "second_fc_", 128, 128));
  layers.push_back(std::make_unique<Dropout>("third_dropout", 128, s.keep));
  layers.push_back(std::make_unique<Dense>("logits", "final_fc_", 128, s.classes));
  return std::make_unique<Sequential>(device, std::move(layers));
}

}  // namespace muster::worker
