// low_latency_svdf: a rank-2 SVDF layer of 1280 units, then three dense layers (see layers/svdf.h
// for the source), as TensorFlow has it.
//
//   [98, 40] → svdf → [1280] → relu, dropout
//     → dense 256 → dropout → dense 256 → dropout → dense → [12]
#include "worker/layers/dense.h"
#include "worker/layers/dropout.h"
#include "worker/layers/relu_dropout.h"
#include "worker/layers/svdf.h"
#include "worker/models/models.h"
#include "worker/models/sequential.h"

namespace muster::worker {

std::unique_ptr<Model> MakeLowLatencySvdf(const ImageModelSettings& s, Device& device) {
  std::vector<std::unique_ptr<Layer>> layers;
  const auto shape = [&layers] { return layers.back()->output_shape(); };
  layers.push_back(std::make_unique<Svdf>("svdf", s.frames, s.bins, 1280, 2));
  layers.push_back(std::make_unique<ReluDropout>("svdf_relu", shape(), s.dropout));
  layers.push_back(std::make_unique<Dense>("first_fc", "first_fc_", shape(), 256));
  layers.push_back(std::make_unique<Dropout>("first_fc_dropout", shape(), s.dropout));
  layers.push_back(std::make_unique<Dense>("second_fc", "second_fc_", shape(), 256));
  layers.push_back(std::make_unique<Dropout>("second_fc_dropout", shape(), s.dropout));
  layers.push_back(std::make_unique<Dense>("logits", "final_fc_", shape(), s.classes));
  return std::make_unique<Sequential>(device, std::move(layers));
}

}  // namespace muster::worker
