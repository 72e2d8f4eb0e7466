// Gradient descent with momentum, in TensorFlow's form: the learning rate stands outside the
// velocity, so that a change of it takes effect at once.
//
//   g = clip(scale * sum) + weight_decay * w
//   m = momentum * m + g
//   w = w - lr * m
//
// Source: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.
#include "ps/optimizers/optimizers.h"

namespace muster::ps {
namespace {

class Momentum final : public Optimizer {
 public:
  explicit Momentum(float mu) : mu_(mu) {}
  const char* name() const override { return "momentum"; }
  std::vector<std::string> slot_names() const override { return {"momentum"}; }
  float slot_init(int /*i*/) const override { return 0; }
  void Apply(Stream& stream, const StepInfo& info, std::span<const float> grad,
             std::span<const float> w, std::span<float> w_next,
             std::span<const std::span<float>> slots) const override {
    stream.device().ops().MomentumUpdate(stream, MakeUpdateInput(info, grad, w, w_next), mu_,
                                         slots[0].data());
  }

 private:
  const float mu_;
};

}  // namespace

OptimizerOr MakeMomentum(const OptimizerParams& params) {
  ASSIGN_OR_RETURN(const float mu, ReadParam(params, "momentum", 0.9, 0, 1));
  return std::make_unique<const Momentum>(mu);
}

}  // namespace muster::ps
