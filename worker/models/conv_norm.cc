// conv_norm: conv (conv.cc) with norms: batch norm behind each convolution, which then needs no
// bias, and layer norm in front of the dense layer, behind a second pool. Dropout comes behind the
// last norm alone: before one it would give training another variance than inference has (Li, Chen,
// Hu, Yang: "Understanding the Disharmony between Dropout and Batch Normalization by Variance
// Shift", CVPR 2019).
//
//   [98, 40, 1] → conv 20 x 8, 64 → batch norm → relu, pool 2 x 2
//     → [49, 20, 64] → conv 10 x 4, 64 → batch norm → relu, pool 2 x 2
//     → [25, 10, 64] → layer norm → dropout → dense → [12]
#include "worker/layers/batch_norm.h"
#include "worker/layers/conv2d.h"
#include "worker/layers/dense.h"
#include "worker/layers/dropout.h"
#include "worker/layers/layer_norm.h"
#include "worker/layers/relu_dropout_pool.h"
#include "worker/models/models.h"
#include "worker/models/sequential.h"

namespace muster::worker {

std::unique_ptr<Model> MakeConvNorm(const ImageModelSettings& s, Device& device) {
  constexpr Extent kOne{1, 1}, kTwo{2, 2};
  std::vector<std::unique_ptr<Layer>> layers;
  const auto shape = [&layers] { return layers.back()->output_shape(); };
  layers.push_back(std::make_unique<Conv2d>("first_conv", "first_", Shape{s.frames, s.bins, 1},
                                            Extent{20, 8}, kOne, Padding::kSame, 64,
                                            /*has_bias=*/false));
  layers.push_back(std::make_unique<BatchNorm>("first_norm", "first_norm_", shape()));
  layers.push_back(std::make_unique<ReluDropoutPool>("first_pool", shape(), kTwo, kTwo, 0.0f));
  layers.push_back(std::make_unique<Conv2d>("second_conv", "second_", shape(), Extent{10, 4}, kOne,
                                            Padding::kSame, 64, /*has_bias=*/false));
  layers.push_back(std::make_unique<BatchNorm>("second_norm", "second_norm_", shape()));
  layers.push_back(std::make_unique<ReluDropoutPool>("second_pool", shape(), kTwo, kTwo, 0.0f));
  layers.push_back(std::make_unique<LayerNorm>("final_norm", "final_norm_", shape()));
  layers.push_back(std::make_unique<Dropout>("final_dropout", shape(), s.dropout));
  // Features of variance 1, and thousands of them: small weights, or the first logits are large.
  layers.push_back(std::make_unique<Dense>("logits", "final_fc_", shape(), s.classes, 0.001f));
  return std::make_unique<Sequential>(device, std::move(layers));
}

}  // namespace muster::worker
