// Adagrad: each element's rate falls with the squares it has seen.
//
//   g = clip(scale * sum) + weight_decay * w
//   a = a + g^2                          a starts at initial_accumulator
//   w = w - lr * g / (sqrt(a) + epsilon)
//
// Source: Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
// Optimization", JMLR 12, 2011. Defaults as in TensorFlow: initial_accumulator 0.1, epsilon 0.
#include "ps/optimizers/optimizers.h"

namespace muster::ps {
namespace {

class Adagrad final : public Optimizer {
 public:
  Adagrad(float initial, float epsilon) : initial_(initial), epsilon_(epsilon) {}
  const char* name() const override { return "adagrad"; }
  std::vector<std::string> slot_names() const override { return {"accumulator"}; }
  float slot_init(int /*i*/) const override { return initial_; }
  void Apply(Stream& stream, const StepInfo& info, std::span<const float> grad,
             std::span<const float> w, std::span<float> w_next,
             std::span<const std::span<float>> slots) const override {
    stream.device().ops().AdagradUpdate(stream, MakeUpdateInput(info, grad, w, w_next), epsilon_,
                                        slots[0].data());
  }

 private:
  const float initial_;
  const float epsilon_;
};

}  // namespace

OptimizerOr MakeAdagrad(const OptimizerParams& params) {
  ASSIGN_OR_RETURN(const float initial, ReadParam(params, "initial_accumulator", 0.1, 0, 1e30));
  ASSIGN_OR_RETURN(const float epsilon, ReadParam(params, "epsilon", 0, 0, 1e30));
  if (initial == 0 && epsilon == 0) {
    return absl::InvalidArgumentError(
        "adagrad: initial_accumulator and epsilon are both 0, so a zero gradient would give 0/0; "
        "make one of them positive");
  }
  return std::make_unique<const Adagrad>(initial, epsilon);
}

}  // namespace muster::ps
