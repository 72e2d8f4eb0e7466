// conv: two convolutions with a max pool between, then softmax regression; "cnn-trad-fpool3" of
// Sainath and Parada: "Convolutional Neural Networks for Small-footprint Keyword Spotting",
// Interspeech 2015, as TensorFlow has it.
//
//   [98, 40, 1] → conv 20 x 8, 64 → [98, 40, 64] → relu, dropout, pool 2 x 2
//     → [49, 20, 64] → conv 10 x 4, 64 → relu, dropout → dense → [12]
#include "worker/layers/conv2d.h"
#include "worker/layers/dense.h"
#include "worker/layers/relu_dropout.h"
#include "worker/layers/relu_dropout_pool.h"
#include "worker/models/models.h"
#include "worker/models/sequential.h"

namespace muster::worker {

std::unique_ptr<Model> MakeConv(const ImageModelSettings& s, Device& device) {
  constexpr Extent kOne{1, 1}, kTwo{2, 2};
  std::vector<std::unique_ptr<Layer>> layers;
  const auto shape = [&layers] { return layers.back()->output_shape(); };
  layers.push_back(std::make_unique<Conv2d>("first_conv", "first_", Shape{s.frames, s.bins, 1},
                                            Extent{20, 8}, kOne, Padding::kSame, 64));
  layers.push_back(std::make_unique<ReluDropoutPool>("first_pool", shape(), kTwo, kTwo, s.dropout));
  layers.push_back(std::make_unique<Conv2d>("second_conv", "second_", shape(), Extent{10, 4}, kOne,
                                            Padding::kSame, 64));
  layers.push_back(std::make_unique<ReluDropout>("second_relu", shape(), s.dropout));
  layers.push_back(std::make_unique<Dense>("logits", "final_fc_", shape(), s.classes));
  return std::make_unique<Sequential>(device, std::move(layers));
}

}  // namespace muster::worker
