// Adam, with the bias of both moments corrected by t, the number of applies of the slice.
//
//   g = scale * sum + weight_decay * w
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
  Adam(float beta1, float beta2, float epsilon) : beta1_(beta1), beta2_(beta2), epsilon_(epsilon) {}
  const char* name() const override { return "adam"; }
  std::vector<std::string> slot_names() const override { return {"adam_m", "adam_v"}; }
  float slot_init(int /*i*/) const override { return 0; }
  void Apply(const StepInfo& info, std::span<const float> grad, std::span<const float> w,
             std::span<float> w_next, std::span<const std::span<float>> slots) const override {
    const double t = static_cast<double>(info.applies);
    const double b1 = beta1_, b2 = beta2_;
    AdamFactors factors;
    factors.beta1 = beta1_;
    factors.one_minus_beta1 = static_cast<float>(1 - b1);
    factors.beta2 = beta2_;
    factors.one_minus_beta2 = static_cast<float>(1 - b2);
    factors.step_size = static_cast<float>(info.learning_rate / (1 - std::pow(b1, t)));
    factors.v_unbias = static_cast<float>(1 / std::sqrt(1 - std::pow(b2, t)));
    factors.epsilon = epsilon_;
    AdamUpdate(MakeUpdateInput(info, grad, w, w_next), factors, slots[0].data(), slots[1].data());
  }

 private:
  const float beta1_;
  const float beta2_;
  const float epsilon_;
};

}  // namespace

OptimizerOr MakeAdam(const OptimizerParams& params) {
  ASSIGN_OR_RETURN(const float beta1, ReadParam(params, "beta1", 0.9, 0, 1));
  ASSIGN_OR_RETURN(const float beta2, ReadParam(params, "beta2", 0.999, 0, 1));
  ASSIGN_OR_RETURN(const float epsilon, ReadParam(params, "epsilon", 1e-8, 1e-30, 1e30));
  return std::make_unique<const Adam>(beta1, beta2, epsilon);
}

}  // namespace muster::ps
