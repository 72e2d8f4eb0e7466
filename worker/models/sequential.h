// Sequential: a chain of layers that ends in logits, trained with softmax cross entropy. All models
// of worker/models are one.
//
// Memory: one buffer for the inputs and one for each layer that does not work in place, allocated
// by Prepare for the largest batch. In Backward each holds the gradient of what it held (layer.h).
//
// Where the stream captures graphs, a step is a few of them (worker/replays.h): the forward pass,
// and the backward pass in parts of neighbouring layers, so that gradients can travel while it goes
// on. What a step is given that the one before was not, lies in the model's memory before the first
// one begins: inputs, labels, and its number, of which dropout is a function. Predict's pass is one
// more.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "worker/layers/layer.h"
#include "worker/model.h"
#include "worker/replays.h"

namespace muster::worker {

class Sequential : public Model {
 public:
  // `layers` fit one another; the first reads the batch's inputs, the last writes the logits.
  // `device` is borrowed.
  Sequential(Device& device, std::vector<std::unique_ptr<Layer>> layers);

  const std::vector<ps::ParamSpec>& params() const override { return params_; }
  absl::Status Prepare(const ps::ParamTable& table, int64_t max_batch) override;
  void Forward(std::span<const float> weights, const Batch& batch, const ItemKey& key) override;
  float Loss() override;
  void Backward(std::span<const float> weights, std::span<float> grads,
                const OnGrad& on_grad) override;
  // A batch larger than the largest goes in pieces. Forgets the last Forward.
  void Predict(std::span<const float> weights, const Batch& batch,
               std::span<float> logits) override;
  Stream* stream() override { return stream_.get(); }
  absl::Status graph_status() const override {
    return replays_ == nullptr ? absl::OkStatus() : replays_->status();
  }
  int64_t num_classes() const override { return layers_.back()->output_shape().size(); }
  int64_t input_size() const override { return layers_.front()->input_shape().size(); }
  std::vector<LayerDescription> layers() const override;
  double flops_per_sample() const override;

 private:
  // The memory of activation `i` (0: the inputs, i + 1: layer i's output), as [batch_size_, shape
  // ...].
  Tensor Activation(size_t i, const Shape& shape) const;
  Tensor Logits() const;
  void TakeInputs(std::span<const float> inputs);
  void RunLayers(std::span<const float> weights, bool training);
  // Neighbouring layers.
  struct Part {
    size_t begin, end;
  };
  // The backward pass over all layers that learn, from the back on.
  void MakeParts();
  void BackwardThrough(Part part, std::span<const float> weights, std::span<float> grads,
                       const OnGrad& on_grad);
  Replays::Key KeyOf(size_t part, std::span<const float> weights, std::span<float> grads) const;

  Device& device_;
  const std::unique_ptr<Stream> stream_;
  const std::unique_ptr<Replays> replays_;  // null: the stream does not capture
  const std::vector<std::unique_ptr<Layer>> layers_;
  std::vector<ps::ParamSpec> params_;
  std::vector<ps::ParamId> first_param_;  // by layer, and one past the last

  // Since Prepare.
  std::vector<int64_t> offsets_;  // by parameter: in the arena, in elements
  std::vector<Buffer> buffers_;
  std::vector<size_t> buffer_of_;              // by activation
  std::vector<std::optional<int>> left_bias_;  // by layer: the parameter that the next one adds
  Buffer labels_, losses_;                     // int32 and float32 [max_batch]
  Buffer step_;                                // int64, of the last Forward
  std::vector<Part> parts_;                    // from the back on
  int64_t max_batch_ = 0;

  // Of the last pass.
  int64_t batch_size_ = 0;
  int64_t first_sample_ = 0, whole_batch_ = 0;
  ItemKey item_;
};

}  // namespace muster::worker
