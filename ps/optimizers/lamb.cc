// LAMB: Adam's direction, at a length in proportion to the parameter's own.
//
//   g = clip(scale * sum)
//   m = beta1 * m + (1 - beta1) * g
//   v = beta2 * v + (1 - beta2) * g^2
//   r = (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon) + weight_decay * w
//   w = w - lr * norm(w) / norm(r) * r      norms over the whole parameter; their ratio is 1 where
//                                           either is 0, and for parameters without decay
//
// t is the number of applies of the slice. The slice sees to the norms (ps/slice_norms.cc).
//
// Source: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
// ICLR 2020 (arXiv 1904.00962), algorithm 2 with phi(z) = z; epsilon as there, 1e-6.
#include <limits>

#include "ps/optimizers/optimizers.h"

namespace muster::ps {
namespace {

class Lamb final : public Optimizer {
 public:
  explicit Lamb(const AdamParams& params) : params_(params) {}
  const char* name() const override { return "lamb"; }
  std::vector<std::string> slot_names() const override { return {"adam_m", "adam_v"}; }
  float slot_init(int /*i*/) const override { return 0; }
  bool has_trust_ratio() const override { return true; }
  void Direct(Stream& stream, const StepInfo& info, std::span<float> grad, std::span<const float> w,
              std::span<const std::span<float>> slots) const override {
    UpdateInput in = MakeUpdateInput(info, grad, w, grad);
    in.decay = 0;
    StepInfo unit = info;
    unit.learning_rate = 1;
    AdamFactors factors = MakeAdamFactors(params_, unit);
    factors.shrink = info.weight_decay;
    stream.device().ops().LambDirection(stream, in, factors, slots[0].data(), slots[1].data());
  }
  void Apply(Stream& stream, const StepInfo& info, std::span<const float> grad,
             std::span<const float> w, std::span<float> w_next,
             std::span<const std::span<float>> /*slots*/) const override {
    UpdateInput in = MakeUpdateInput(info, grad, w, w_next);
    in.scale = 1;
    in.clip = std::numeric_limits<float>::infinity();
    in.decay = 0;
    stream.device().ops().SgdUpdate(stream, in);
  }

 private:
  const AdamParams params_;
};

}  // namespace

OptimizerOr MakeLamb(const OptimizerParams& params) {
  ASSIGN_OR_RETURN(const AdamParams read, ReadAdamParams(params, /*epsilon=*/1e-6));
  return std::make_unique<const Lamb>(read);
}

}  // namespace muster::ps
