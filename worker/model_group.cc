#include "worker/model_group.h"

#include <utility>

#include "telemetry/check.h"
#include "worker/shuffle.h"

namespace muster::worker {

ModelGroup::ModelGroup(std::vector<std::unique_ptr<Model>> models, Communicator* communicator)
    : models_(std::move(models)), communicator_(communicator) {
  CHECK(!models_.empty());
  CHECK(models_.size() == 1 || communicator_ != nullptr);
}

std::vector<Stream*> ModelGroup::streams() {
  std::vector<Stream*> streams;
  for (const auto& model : models_) {
    if (model->stream() != nullptr) streams.push_back(model->stream());
  }
  return streams;
}

absl::Status ModelGroup::Prepare(const ps::ParamTable& table, int64_t max_batch) {
  for (const auto& model : models_) {
    RETURN_IF_ERROR(model->Prepare(table, LargestShare(max_batch, models_.size())));
  }
  return absl::OkStatus();
}

void ModelGroup::Forward(ConstArenas weights, std::span<const Batch> shares, const ItemKey& key) {
  CHECK_EQ(shares.size(), models_.size());
  for (size_t i = 0; i < models_.size(); ++i) models_[i]->Forward(weights[i], shares[i], key);
}

void ModelGroup::Backward(ConstArenas weights, Arenas grads, const OnDeviceGrad& on_grad) {
  for (size_t i = 0; i < models_.size(); ++i) {
    models_[i]->Backward(weights[i], grads[i], [&](ps::ParamId param) { on_grad(i, param); });
  }
}

absl::Status ModelGroup::graph_status() const {
  for (const auto& model : models_) RETURN_IF_ERROR(model->graph_status());
  return absl::OkStatus();
}

double ModelGroup::Loss() {
  double sum = 0;
  for (const auto& model : models_) sum += model->Loss();
  return sum;
}

}  // namespace muster::worker
