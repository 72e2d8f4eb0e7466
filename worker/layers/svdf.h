// Svdf: a dense layer over [frames, features] whose weights are sums of `rank` products of a filter
// over features and one over frames.
//
//   x [frames, features]   F [features, units · rank]   T [frames, units · rank]
//   b [units]   y [units]
//
//   M[t, i, u] = Σ_r F[i, u · rank + r] · T[t, u · rank + r]
//   y[u] = b[u] + Σ_t Σ_i x[t, i] M[t, i, u]
//
// M is written out once for a pass: for a whole clip that is half the work of filtering each frame,
// and nothing beside M has to be kept. Source: Nakkiran, Alvarez, Prabhavalkar, Parada:
// "Compressing Deep Neural Networks using a Rank-Constrained Topology", Interspeech 2015.
#pragma once

#include "worker/layers/layer.h"

namespace muster::worker {

class Svdf : public Layer {
 public:
  // Parameters `weights_frequency` (F), `weights_time` (T; both truncated normal, stddev 0.01) and
  // `bias` (zero).
  Svdf(std::string name, int64_t frames, int64_t features, int64_t units, int64_t rank);

  std::vector<ps::ParamSpec> params() const override;
  absl::Status Prepare(Device& device, int64_t max_batch) override;
  void Forward(const Pass& pass, ConstTensor x, Tensor y) override;
  void Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                const OnLayerGrad& on_grad) override;
  std::vector<LayerDescription> Describe() const override;
  double flops(bool want_dx) const override;

 private:
  Tensor Matrix() const;

  const int64_t frames_, features_, units_, rank_;
  Buffer matrix_;  // M, then its gradient
};

}  // namespace muster::worker
