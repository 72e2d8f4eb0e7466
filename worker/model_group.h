// ModelGroup: the models that compute a replica's minibatch together, one on each device, each a
// share of the samples, neighbours in their order (ShareOf in worker/shuffle.h).
//
//   gradient = sum over g of model g's gradient;  loss = sum over g of model g's loss
//
// since a model divides by the whole minibatch's size, not by its share's (worker/model.h). Of one
// model it is that model. Owned and called by one thread, the trainer's: models enqueue on their
// streams, so that all devices work although one thread tells them what. Owns the models; borrows
// the communicator.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/communicator.h"
#include "worker/model.h"

namespace muster::worker {

// An arena (ParamTable order) in the memory of each device.
using Arenas = std::span<const std::span<float>>;
using ConstArenas = std::span<const std::span<const float>>;

// OnGrad of model number `device`.
using OnDeviceGrad = std::function<void(size_t device, ps::ParamId)>;

class ModelGroup {
 public:
  // The models are alike, each on another device; `communicator` has a rank for each of them, in
  // their order, and may be null where there is one. PRECONDITION: at least one.
  ModelGroup(std::vector<std::unique_ptr<Model>> models, Communicator* communicator);

  size_t size() const { return models_.size(); }
  const std::vector<ps::ParamSpec>& params() const { return models_.front()->params(); }
  Model& model(size_t i) { return *models_[i]; }
  Communicator* communicator() { return communicator_; }
  // On which the models compute, by device; empty: on the calling thread (Model::stream).
  std::vector<Stream*> streams();

  // Prepares each model for its share of up to `max_batch` samples. Called once, first.
  absl::Status Prepare(const ps::ParamTable& table, int64_t max_batch);
  // As Model's; shares[i] is model i's. PRECONDITION: none is empty.
  void Forward(ConstArenas weights, std::span<const Batch> shares, const ItemKey& key);
  void Backward(ConstArenas weights, Arenas grads, const OnDeviceGrad& on_grad);
  double Loss();
  // As Model's; the first one's that is not OK.
  absl::Status graph_status() const;

 private:
  const std::vector<std::unique_ptr<Model>> models_;
  Communicator* const communicator_;
};

}  // namespace muster::worker
