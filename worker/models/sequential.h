// Sequential: a chain of layers that ends in logits, trained with softmax cross entropy. All models
// of worker/models are one.
//
// Memory: one buffer per layer that does not work in place, and two for gradients, allocated by
// Prepare for the largest batch.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "kernels/device.h"
#include "worker/layers/layer.h"
#include "worker/model.h"

namespace muster::worker {

class Sequential : public Model {
 public:
  // `layers` fit one another; the first reads the batch's inputs, the last writes the logits.
  // `device` is borrowed.
  Sequential(Device& device, std::vector<std::unique_ptr<Layer>> layers);

  const std::vector<ps::ParamSpec>& params() const override { return params_; }
  void Prepare(const ps::ParamTable& table, int64_t max_batch) override;
  float Loss(std::span<const float> weights, const Batch& batch, const ItemKey& key) override;
  void Backward(std::span<const float> weights, std::span<float> grads,
                const OnGrad& on_grad) override;
  void Predict(std::span<const float> weights, const Batch& batch,
               std::span<float> logits) override;
  int64_t num_classes() const override { return layers_.back()->output_size(); }
  int64_t input_size() const override { return layers_.front()->input_size(); }
  std::vector<LayerDescription> layers() const override;
  double flops_per_sample() const override;

 private:
  // What layer i reads and writes in a pass over `batch_`.
  const float* Input(size_t i) const;
  float* Output(size_t i) const { return activations_[buffer_[i]].data(); }
  Pass PassFor(size_t i, std::span<const float> weights, bool training) const;
  void Forward(std::span<const float> weights, const Batch& batch, bool training,
               const ItemKey& key);

  Stream mutable stream_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<ps::ParamSpec> params_;
  std::vector<ps::ParamId> first_param_;  // by layer
  std::vector<int64_t> offsets_;          // by parameter: in the arena
  std::vector<size_t> buffer_;            // by layer: its output's buffer
  std::vector<Buffer> activations_;
  std::array<Buffer, 2> gradients_;
  int64_t max_batch_ = 0;
  Batch batch_;  // of the last pass
  ItemKey key_;
};

}  // namespace muster::worker
