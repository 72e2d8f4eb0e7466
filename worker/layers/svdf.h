// Svdf: a rank-constrained dense layer over time: each filter is a frequency filter times a time
// filter; `rank` filters add up to a unit.
//
//   x [frames, bins]   F [bins, filters]   T [frames, filters]   b [units]   filters = rank * units
//   a = x F                                          [frames, filters]
//   o[f] = Σ_t a[t, f] T[t, f]                       [filters]
//   y[u] = relu(Σ_r o[u * rank + r] + b[u])          [units]
//
// Backward takes the gradient *before* the relu (see conv2d.h). Source: Nakkiran et al.:
// "Compressing Deep Neural Networks using a Rank-Constrained Topology", Interspeech 2015.
#pragma once

#include "worker/layers/layer.h"

namespace muster::worker {

class Svdf : public Layer {
 public:
  // Parameters `weights_frequency`, `weights_time` (truncated normal, stddev 0.01) and `bias`
  // (zero). The first layer of its model: it computes no dx.
  Svdf(std::string name, int64_t frames, int64_t bins, int64_t units, int64_t rank);
  std::vector<ps::ParamSpec> params() const override;
  void Forward(const Pass& pass, const float* x, float* y) override;
  void Backward(const Pass& pass, const float* x, const float* y, const float* dy, float* dx,
                const std::function<void(int param)>& done) override;
  std::vector<LayerDescription> Describe() const override;
  double flops_per_sample(bool first) const override;

 private:
  const int64_t frames_, bins_, units_, rank_;
  std::vector<float> activations_;  // a of one sample, [frames, filters]
};

}  // namespace muster::worker
