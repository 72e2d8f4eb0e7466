// Layer: one step of a feed-forward model. Owned by its model and called by that model's thread.
//
// A layer maps x [batch, input_shape] to y [batch, output_shape]. Weights, gradients and
// activations belong to the model; a layer keeps what Backward needs beyond its x. An activation's
// memory serves twice: Forward leaves y there, and Backward of the layer behind replaces it by its
// gradient. What a layer enqueues may be done again for later steps without asking it
// (worker/replays.h): it is a function of the shapes and the pass, of its step by step_at alone. A
// new layer is one pair of files here and its test; if it is to be exported, one
// function in worker/onnx/layers.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/op.h"
#include "ps/param.h"
#include "worker/layer_description.h"
#include "worker/model.h"

namespace muster::worker {

// What a pass over the layers hands to each of them.
struct Pass {
  Stream& stream;
  bool training = false;
  ItemKey item;                          // of everything random; training only
  std::span<const ConstTensor> weights;  // of this layer, in the order of its params()
  std::span<const Tensor> grads;         // likewise; Backward only
  int64_t first_sample = 0;              // place of x's first sample in the whole minibatch
  int64_t whole_batch = 0;               // samples of that; 0: as many as x has
  const int64_t* step_at = nullptr;      // DropoutArgs::step_at
  ChannelBias bias = {};                 // what the layer before has left; Forward only
};

// Called with a parameter's index among the layer's params().
using OnLayerGrad = std::function<void(int param)>;

class Layer {
 public:
  // Shapes are of one sample.
  Layer(std::string name, Shape input, Shape output)
      : name_(std::move(name)), input_(input), output_(output) {}
  virtual ~Layer() = default;

  const std::string& name() const { return name_; }  // unique within the model
  const Shape& input_shape() const { return input_; }
  const Shape& output_shape() const { return output_; }

  virtual std::vector<ps::ParamSpec> params() const { return {}; }
  // True when y lies over x (and so dx over dy).
  virtual bool in_place() const { return false; }
  // Allocates what the layer keeps, for batches up to `max_batch`. Called once, first. Fails when
  // the device has no room for it.
  virtual absl::Status Prepare(Device& /*device*/, int64_t /*max_batch*/) {
    return absl::OkStatus();
  }

  virtual void Forward(const Pass& pass, ConstTensor x, Tensor y) = 0;
  // Asks a prepared layer to leave its bias to the layer behind, which then finds it in Pass::bias:
  // its index among the params(), or none where it goes on to add it.
  virtual std::optional<int> LeaveBias() { return std::nullopt; }
  // Whether Forward adds Pass::bias to its x first.
  virtual bool takes_bias() const { return false; }

  // `x` is the x of the forward pass, `dy` the gradient of its y. Overwrites pass.grads, and x with
  // dx where `want_dx` (x is not read otherwise after that). Calls `on_grad` once for each
  // parameter, after its gradient is final and the layer's last read of it.
  virtual void Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                        const OnLayerGrad& on_grad) = 0;

  // What it computes in inference, as a chain.
  virtual std::vector<LayerDescription> Describe() const = 0;
  // Multiplications and additions of a training step for one sample.
  virtual double flops(bool /*want_dx*/) const { return 0; }

 protected:
  LayerDescription Description(std::string kind) const {
    return {std::move(kind), name_, input_.ToVector(), output_.ToVector(), {}, {}};
  }

 private:
  const std::string name_;
  const Shape input_, output_;
};

// A weight with TensorFlow's usual first values (truncated normal), and a bias of zeros.
ps::ParamSpec WeightSpec(std::string name, const Shape& shape, float stddev);
ps::ParamSpec BiasSpec(std::string name, int64_t size);
// A norm's factors: ones.
ps::ParamSpec GainSpec(std::string name, int64_t size);

}  // namespace muster::worker
