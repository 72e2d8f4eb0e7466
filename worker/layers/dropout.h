// Dropout: in training each element survives with probability `keep` and is divided by it; in
// inference nothing happens.
//
// Which survive is Philox over (seed, layer, step, replica) and the element's index, never memory
// order (kernels/op.h). Source: Srivastava et al.: "Dropout: A Simple Way to Prevent Neural
// Networks from Overfitting", JMLR 15, 2014 (in the inverted form).
//
// ReluDropout: the same behind a layer that ends with relu; its gradient includes the relu's.
// ReluDropoutMaxPool: then max over 2 x 2 windows with stride 2, SAME padding, the gradient in one
// pass.
#pragma once

#include "worker/layers/layer.h"

namespace muster::worker {

class Dropout : public Layer {
 public:
  Dropout(std::string name, int64_t size, float keep)
      : Layer(std::move(name), size, size), keep_(keep) {}
  bool in_place() const override { return true; }
  void Forward(const Pass& pass, const float* x, float* y) override;
  void Backward(const Pass& pass, const float* x, const float* y, const float* dy, float* dx,
                const std::function<void(int param)>& done) override;
  std::vector<LayerDescription> Describe() const override { return {}; }

 protected:
  const float keep_;
};

class ReluDropout : public Dropout {
 public:
  using Dropout::Dropout;
  void Backward(const Pass& pass, const float* x, const float* y, const float* dy, float* dx,
                const std::function<void(int param)>& done) override;
};

class ReluDropoutMaxPool : public Layer {
 public:
  ReluDropoutMaxPool(std::string name, const PoolShape& shape, float keep);
  bool grad_over_input() const override { return true; }
  void Forward(const Pass& pass, const float* x, float* y) override;
  void Backward(const Pass& pass, const float* x, const float* y, const float* dy, float* dx,
                const std::function<void(int param)>& done) override;
  std::vector<LayerDescription> Describe() const override;

 private:
  PoolShape shape_;
  const float keep_;
};

}  // namespace muster::worker
