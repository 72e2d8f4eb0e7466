// BatchNorm: each channel is normalised over the samples and pixels of the batch, then scaled and
// moved.
//
//   x, y [..., channels]   gain, offset, mean, variance [channels]
//   y = gain (x - m) / sqrt(v + 1e-5) + offset
//   training:  m, v = the batch's mean and variance (Σ (x - m)² / count)
//   inference: m, v = the parameters mean and variance, which are statistics: each step pushes the
//              batch's as their "gradients", and the shard folds the replicas' average into a
//              moving average, momentum 0.9 (ParamSpec::Kind::kStatistic)
//   dgain = Σ dy z   doffset = Σ dy   dx = gain / sqrt(v + 1e-5) (dy - mean(dy) - z mean(dy z)),
//   with z = (x - m) / sqrt(v + 1e-5) and sums over samples and pixels
//
// Replicas do not hear of each other's batches; nor do several devices that share one: each
// normalises by its own samples (the field calls it batch norm without synchronisation), so their
// number changes what is computed, as the batch size does. What they push are shares, which are
// added: each device's moments count by its part of the whole minibatch, so the statistic is their
// mean. Source: Ioffe, Szegedy: "Batch Normalization: Accelerating Deep Network Training by
// Reducing Internal Covariate Shift", ICML 2015.
#pragma once

#include "worker/layers/layer.h"

namespace muster::worker {

class BatchNorm : public Layer {
 public:
  // Parameters `<prefix>gain` (ones), `<prefix>offset` (zeros), and the statistics `<prefix>mean`
  // (zeros at first) and `<prefix>variance` (ones). The last dimension of `shape` is the channels.
  BatchNorm(std::string name, std::string prefix, const Shape& shape);

  std::vector<ps::ParamSpec> params() const override;
  absl::Status Prepare(Device& device, int64_t max_batch) override;
  void Forward(const Pass& pass, ConstTensor x, Tensor y) override;
  void Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                const OnLayerGrad& on_grad) override;
  std::vector<LayerDescription> Describe() const override;

 private:
  Tensor Mean() const { return {mean_.data<float>(), {channels_}}; }
  Tensor Variance() const { return {variance_.data<float>(), {channels_}}; }

  const std::string prefix_;
  const int64_t channels_;
  Buffer mean_, variance_;  // the batch's, [channels]
};

}  // namespace muster::worker
