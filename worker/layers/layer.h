// Layer: one step of a feed-forward model. Owned by its model and called by that model's thread.
//
// A layer maps x [batch, input_size] to y [batch, output_size]. Weights, gradients and activations
// belong to the model; a layer keeps only scratch. A new layer is one pair of files here and its
// test; if it is to be exported, one function in worker/onnx/layers.cc.
#pragma once

#include <cstdint>
#include <functional>
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
  int64_t batch = 0;
  bool training = false;
  ItemKey key;                        // of everything random; training only
  std::vector<const float*> weights;  // of this layer, in the order of its params()
  std::vector<float*> grads;          // likewise; Backward only
};

class Layer {
 public:
  explicit Layer(std::string name, int64_t input_size, int64_t output_size)
      : name_(std::move(name)), input_size_(input_size), output_size_(output_size) {}
  virtual ~Layer() = default;

  const std::string& name() const { return name_; }
  int64_t input_size() const { return input_size_; }
  int64_t output_size() const { return output_size_; }

  virtual std::vector<ps::ParamSpec> params() const { return {}; }
  // True when y is written over x (and dx over dy).
  virtual bool in_place() const { return false; }
  // True when Backward writes dx over the x of the forward pass.
  virtual bool grad_over_input() const { return false; }

  virtual void Forward(const Pass& pass, const float* x, float* y) = 0;
  // dx from dy, and the gradients of the weights (overwritten). `x` and `y` are those of the
  // forward pass; a null `dx` is not wanted. Calls `done` with the index of each of its params once
  // the gradient is final and the weight is read no more.
  virtual void Backward(const Pass& pass, const float* x, const float* y, const float* dy,
                        float* dx, const std::function<void(int param)>& done) = 0;

  // What it computes in inference; several when it fuses several.
  virtual std::vector<LayerDescription> Describe() const = 0;
  // Multiplications and additions of a training step for one sample; `first`: no dx is wanted.
  virtual double flops_per_sample(bool /*first*/) const { return 0; }

 protected:
  // Key of this layer's random numbers in this pass.
  PhiloxKey RandomKey(const Pass& pass) const {
    return DeriveKey(pass.key.seed ^ HashName(name_), static_cast<uint64_t>(pass.key.step),
                     static_cast<uint64_t>(pass.key.replica));
  }

 private:
  const std::string name_;
  const int64_t input_size_, output_size_;
};

}  // namespace muster::worker
