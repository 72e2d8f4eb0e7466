// single_fc: softmax regression on the whole image.
#include "worker/layers/dense.h"
#include "worker/models/models.h"
#include "worker/models/sequential.h"

namespace muster::worker {

std::unique_ptr<Model> MakeSingleFc(const ImageModelSettings& s, Device& device) {
  std::vector<std::unique_ptr<Layer>> layers;
  layers.push_back(
      std::make_unique<Dense>("logits", "", Shape{s.frames, s.bins}, s.classes, 0.001f));
  return std::make_unique<Sequential>(device, std::move(layers));
}

}  // namespace muster::worker
