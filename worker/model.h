// Model: parameters, a loss and its gradient. Owned and called by one thread (the trainer's).
//
// A model that computes on a device enqueues on its stream and returns: the arenas it is given are
// the device's, and what it says of them (OnGrad) holds at that point of the stream. Only Loss
// waits.
//
// Memory: weights and gradients lie in arenas that the trainer owns, in ParamTable order;
// activations belong to the model and are allocated once for the largest batch. A new model is one
// file in worker/models/, one line in worker/models/models.cc, and its test.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/stream.h"
#include "ps/param.h"
#include "telemetry/status.h"
#include "worker/layer_description.h"

namespace muster::worker {

// One minibatch, or the neighbours in it that one of several devices computes, in the memory of the
// model's device. Rows are samples.
struct Batch {
  std::span<const float> inputs;    // [size, input_size]
  std::span<const int32_t> labels;  // [size], class indices
  int64_t size = 0;
  int64_t first = 0;  // place of the first sample in the whole minibatch
  int64_t whole = 0;  // samples of the whole minibatch; 0: these are all
};

// Identifies the work item, for everything random in a forward pass (dropout): Philox over (seed,
// step, replica) and the logical index, to which a sample's place in the whole minibatch belongs.
struct ItemKey {
  uint64_t seed = 0;
  int64_t step = 0;
  int32_t replica = 0;
};

// Called by Backward once per parameter, after its gradient is final and after the step's last read
// of the parameter.
using OnGrad = std::function<void(ps::ParamId)>;

class Model {
 public:
  virtual ~Model() = default;
  virtual const std::vector<ps::ParamSpec>& params() const = 0;
  // `table` is ParamTable::Make(params()), `max_batch` the largest batch; allocates. Called once,
  // first. Fails when the device has no room for it.
  virtual absl::Status Prepare(const ps::ParamTable& table, int64_t max_batch) = 0;
  // Forward in training mode. `weights` is the arena (table.arena_size()); keeps what Backward and
  // Loss need.
  virtual void Forward(std::span<const float> weights, const Batch& batch, const ItemKey& key) = 0;
  // The losses of the last Forward's samples, over the whole minibatch's size: the mean loss, or
  // this device's share of it.
  virtual float Loss() = 0;
  // Gradient of that loss, into `grads` (arena, overwritten). Same `weights` as that Forward.
  virtual void Backward(std::span<const float> weights, std::span<float> grads,
                        const OnGrad& on_grad) = 0;
  // Forward in inference mode: logits [batch, num_classes] in the host's memory, there when the
  // stream has come so far. Any batch size.
  virtual void Predict(std::span<const float> weights, const Batch& batch,
                       std::span<float> logits) = 0;
  // On which it computes; null: on the calling thread, at once, in the host's memory.
  virtual Stream* stream() { return nullptr; }
  // Why a device that captures graphs (kernels/stream.h) is told every op of every step; else OK.
  virtual absl::Status graph_status() const { return absl::OkStatus(); }
  virtual int64_t num_classes() const = 0;
  virtual int64_t input_size() const = 0;  // elements per sample
  // The layers in their order, each reading what the one before wrote, for the export. Empty: not
  // described, or not a chain.
  virtual std::vector<LayerDescription> layers() const { return {}; }
  virtual double flops_per_sample()
      const = 0;  // of one training step (forward + backward), multiply and add counted as two
};

}  // namespace muster::worker
