// Adam, with the bias of both moments corrected by t, the number of applies of the slice.
//
//   g = clip(scale * sum) + weight_decay * w
//   m = beta1 * m + (1 - beta1) * g
//   v = beta2 * v + (1 - beta2) * g^2
//   w = w - lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
//
// Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1.
#include <cmath>

#include "ps/optimizers/optimizers.h"

namespace muster::ps {
namespace {

class Adam final : public Optimizer {
 public:
  explicit Adam(const AdamParams& params) : params_(params) {}
  const char* name() const override { return "adam"; }
  std::vector<std::string> slot_names() const override { return {"adam_m", "adam_v"}; }
  float slot_init(int /*i*/) const override { return 0; }
  void Apply(Stream& stream, const StepInfo& info, std::span<const float> grad,
             std::span<const float> w, std::span<float> w_next,
             std::span<const std::span<float>> slots) const override {
    stream.device().ops().AdamUpdate(stream, MakeUpdateInput(info, grad, w, w_next),
                                     MakeAdamFactors(params_, info), slots[0].data(),
                                     slots[1].data());
  }

 private:
  const AdamParams params_;
};

}  // namespace

absl::StatusOr<AdamParams> ReadAdamParams(const OptimizerParams& params, double epsilon) {
  AdamParams read{};
  ASSIGN_OR_RETURN(read.beta1, ReadParam(params, "beta1", 0.9, 0, 1));
  ASSIGN_OR_RETURN(read.beta2, ReadParam(params, "beta2", 0.999, 0, 1));
  ASSIGN_OR_RETURN(read.epsilon, ReadParam(params, "epsilon", epsilon, 1e-30, 1e30));
  return read;
}

AdamFactors MakeAdamFactors(const AdamParams& params, const StepInfo& info) {
  const double t = static_cast<double>(info.applies);
  const double b1 = params.beta1, b2 = params.beta2;
  AdamFactors factors{};
  factors.beta1 = params.beta1;
  factors.one_minus_beta1 = static_cast<float>(1 - b1);
  factors.beta2 = params.beta2;
  factors.one_minus_beta2 = static_cast<float>(1 - b2);
  factors.step_size = static_cast<float>(info.learning_rate / (1 - std::pow(b1, t)));
  factors.v_unbias = static_cast<float>(1 / std::sqrt(1 - std::pow(b2, t)));
  factors.epsilon = params.epsilon;
  factors.shrink = 0;
  return factors;
}

OptimizerOr MakeAdam(const OptimizerParams& params) {
  ASSIGN_OR_RETURN(const AdamParams read, ReadAdamParams(params));
  return std::make_unique<const Adam>(read);
}

}  // namespace muster::ps
