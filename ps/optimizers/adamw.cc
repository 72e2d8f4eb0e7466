// AdamW: Adam whose weight decay is decoupled: it shrinks the weight itself and does not pass
// through the moments.
//
//   g = clip(scale * sum)
//   m = beta1 * m + (1 - beta1) * g
//   v = beta2 * v + (1 - beta2) * g^2
//   w = w - lr * ((m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon) + weight_decay * w)
//
// t is the number of applies of the slice. Without weight_decay it is Adam.
//
// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2,
// with lr for both its alpha and its schedule multiplier (as PyTorch and TensorFlow have it).
#include "ps/optimizers/optimizers.h"

namespace muster::ps {
namespace {

class AdamW final : public Optimizer {
 public:
  explicit AdamW(const AdamParams& params) : params_(params) {}
  const char* name() const override { return "adamw"; }
  std::vector<std::string> slot_names() const override { return {"adam_m", "adam_v"}; }
  float slot_init(int /*i*/) const override { return 0; }
  void Apply(Stream& stream, const StepInfo& info, std::span<const float> grad,
             std::span<const float> w, std::span<float> w_next,
             std::span<const std::span<float>> slots) const override {
    UpdateInput in = MakeUpdateInput(info, grad, w, w_next);
    in.decay = 0;
    AdamFactors factors = MakeAdamFactors(params_, info);
    factors.shrink = info.learning_rate * info.weight_decay;
    stream.device().ops().AdamUpdate(stream, in, factors, slots[0].data(), slots[1].data());
  }

 private:
  const AdamParams params_;
};

}  // namespace

OptimizerOr MakeAdamW(const OptimizerParams& params) {
  ASSIGN_OR_RETURN(const AdamParams read, ReadAdamParams(params));
  return std::make_unique<const AdamW>(read);
}

}  // namespace muster::ps
