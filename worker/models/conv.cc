// conv: two convolutions with a max pool between, then softmax regression; "cnn-trad-fpool3" of
// Sainath and Parada: "Convolutional Neural Networks for Small-footprint Keyword Spotting",
// Interspeech 2015, as TensorFlow has it.
//
//   [98, 40, 1] → conv 20 x 8, 64 → [98, 40, 64] → dropout, pool 2 x 2 → [49, 20, 64] → conv 10 x
//   4, 64 → dropout → dense → [12]
#include "worker/layers/conv2d.h"
#include "worker/layers/dense.h"
#include "worker/layers/dropout.h"
#include "worker/models/models.h"
#include "worker/models/sequential.h"

namespace muster::worker {

std::unique_ptr<Model> MakeConv(const ImageModelSettings& s, Device& device) {
  const Conv2dShape first = MakeConv2dShape(s.frames, s.bins, 1, 20, 8, 64, 1, 1, /*same=*/true);
  const PoolShape pool{0, first.out_height, first.out_width, first.out_channels};
  const Conv2dShape second =
      MakeConv2dShape(pool.out_height(), pool.out_width(), 64, 10, 4, 64, 1, 1, /*same=*/true);
  std::vector<std::unique_ptr<Layer>> layers;
  layers.push_back(std::make_unique<Conv2d>("first_conv", "first_", first, true));
  layers.push_back(std::make_unique<ReluDropoutMaxPool>("first_pool", pool, s.keep));
  layers.push_back(std::make_unique<Conv2d>("second_conv", "second_", second, true));
  const int64_t size = layers.back()->output_size();
  layers.push_back(std::make_unique<ReluDropout>("second_dropout", size, s.keep));
  layers.push_back(std::make_unique<Dense>("logits", "final_fc_", size, s.classes));
  return std::make_unique<Sequential>(device, std::move(layers));
}

}  // namespace muster::worker
