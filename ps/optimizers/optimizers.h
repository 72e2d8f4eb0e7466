// The server optimizers' factories, one per file of this folder; ps/optimizer.cc tables them.
//
// In the formulas, `sum` is the gradient summed over replicas, and clip(x) lies between -clip_value
// and clip_value, which are infinite where clipping is off.
//
// Pure functions: thread-safe. `params` holds hyper-parameters by name, known ones only; a value
// out of its range fails with the range.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "kernels/device.h"
#include "kernels/device_ops.h"
#include "kernels/optimizer_math.h"
#include "ps/optimizer.h"

namespace muster::ps {

using OptimizerParams = std::map<std::string, double>;
using OptimizerOr = absl::StatusOr<std::unique_ptr<const Optimizer>>;

OptimizerOr MakeSgd(const OptimizerParams& params);
OptimizerOr MakeMomentum(const OptimizerParams& params);
OptimizerOr MakeNesterov(const OptimizerParams& params);
OptimizerOr MakeAdagrad(const OptimizerParams& params);
OptimizerOr MakeRmsprop(const OptimizerParams& params);
OptimizerOr MakeAdam(const OptimizerParams& params);
OptimizerOr MakeAdamW(const OptimizerParams& params);
OptimizerOr MakeLamb(const OptimizerParams& params);
OptimizerOr MakeFtrl(const OptimizerParams& params);

// The hyper-parameter `name`, or `fallback` where absent. Fails when it lies outside [low, high).
absl::StatusOr<float> ReadParam(const OptimizerParams& params, const std::string& name,
                                double fallback, double low, double high);

// What adam, adamw and lamb share: beta1, beta2 and epsilon, and an apply's factors (without
// shrink).
struct AdamParams {
  float beta1, beta2, epsilon;
};
absl::StatusOr<AdamParams> ReadAdamParams(const OptimizerParams& params, double epsilon = 1e-8);
AdamFactors MakeAdamFactors(const AdamParams& params, const StepInfo& info);

// What Optimizer::Apply got, as kernels/optimizer_math.h takes it.
UpdateInput MakeUpdateInput(const StepInfo& info, std::span<const float> grad,
                            std::span<const float> w, std::span<float> w_next);

}  // namespace muster::ps
