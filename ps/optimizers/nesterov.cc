// Nesterov's accelerated gradient, in TensorFlow's form: momentum that looks one step ahead, and
// the learning rate outside the velocity.
//
//   g = clip(scale * sum) + weight_decay * w
//   m = momentum * m + g
//   w = w - lr * (g + momentum * m)
//
// Source: Nesterov, "A method for solving the convex programming problem with convergence rate
// O(1/k^2)", 1983, as TensorFlow's ApplyMomentum with use_nesterov computes it. Default as for
// momentum: 0.9.
#include "ps/optimizers/optimizers.h"

namespace muster::ps {
namespace {

class Nesterov final : public Optimizer {
 public:
  explicit Nesterov(float mu) : mu_(mu) {}
  const char* name() const override { return "nesterov"; }
  std::vector<std::string> slot_names() const override { return {"momentum"}; }
  float slot_init(int /*i*/) const override { return 0; }
  void Apply(Stream& stream, const StepInfo& info, std::span<const float> grad,
             std::span<const float> w, std::span<float> w_next,
             std::span<const std::span<float>> slots) const override {
    stream.device().ops().NesterovUpdate(stream, MakeUpdateInput(info, grad, w, w_next), mu_,
                                         slots[0].data());
  }

 private:
  const float mu_;
};

}  // namespace

OptimizerOr MakeNesterov(const OptimizerParams& params) {
  ASSIGN_OR_RETURN(const float mu, ReadParam(params, "momentum", 0.9, 0, 1));
  return std::make_unique<const Nesterov>(mu);
}

}  // namespace muster::ps
