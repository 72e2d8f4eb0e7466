// Optimizer: turns the summed gradient of a slice into its next weights. Stateless; the shard owns
// the slots.
//
// The math is in the table of ops of the device on which the slice lies (kernels/device_ops.h): on
// the host kernels/optimizer_math.h, done at once; else it is enqueued on the stream. These classes
// pick it and hold the hyper-parameters. Immutable: thread-safe. A new optimizer is one file
// ps/optimizers/<name>.cc with its formula and source on top, one line in ps/optimizer.cc, and its
// test.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/stream.h"
#include "telemetry/status.h"

namespace muster::ps {

struct StepInfo {
  int64_t step = 0;         // global step whose gradient is applied, from 0
  int64_t applies = 1;      // applies of this slice, this one included (Adam's t)
  float learning_rate = 0;  // of this step, times the parameter's lr_scale
  float scale = 1;          // factor of the summed gradient (1/V)
  // Each element of the averaged gradient is clamped to [-clip_value, clip_value].
  float clip_value = std::numeric_limits<float>::infinity();
  float weight_decay = 0;  // 0 for parameters without decay
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  virtual const char* name() const = 0;
  // Names of the per-element state vectors, e.g. {"momentum"}; each as long as the slice, float32.
  virtual std::vector<std::string> slot_names() const = 0;
  // First value of slot i.
  virtual float slot_init(int i) const = 0;
  // True: a step's length depends on norms of whole parameters, and the slice asks Direct before
  // Apply (ps/norms.h). BSP only.
  virtual bool has_trust_ratio() const { return false; }
  // First phase of such an optimizer: updates the slots and turns the gradient, in place, into the
  // direction of the step.
  virtual void Direct(Stream& /*stream*/, const StepInfo& /*info*/, std::span<float> /*grad*/,
                      std::span<const float> /*w*/,
                      std::span<const std::span<float>> /*slots*/) const {}
  // w_next = update(w, clip(scale * grad), slots). All spans have the slice's size; w_next may be
  // w, nothing else overlaps. With a trust ratio `grad` is the direction, and the learning rate
  // holds the ratio.
  virtual void Apply(Stream& stream, const StepInfo& info, std::span<const float> grad,
                     std::span<const float> w, std::span<float> w_next,
                     std::span<const std::span<float>> slots) const = 0;
};

// `name` is one of OptimizerNames() ("sgd", "adam", …); `params` its hyper-parameters by name
// ("momentum", "beta1", …), defaults where absent. An unknown name or hyper-parameter fails with
// the valid ones, a value out of range with the range.
absl::StatusOr<std::unique_ptr<const Optimizer>> MakeOptimizer(
    const std::string& name, const std::map<std::string, double>& params);
std::vector<std::string> OptimizerNames();

}  // namespace muster::ps
