// FTRL-proximal: gradient descent whose weights are, after each step, the exact minimum of all
// gradients so far with an L1 and an L2 penalty; l1 makes weights exactly 0.
//
//   g = clip(scale * sum) + weight_decay * w
//   b = a + g^2                                   a starts at initial_accumulator
//   z = z + g - (b^p - a^p) / lr * w              p = -learning_rate_power; z starts at 0
//   w = |z| <= l1 ? 0 : (sign(z) * l1 - z) / (b^p / lr + 2 * l2)
//   a = b
//
// As in TensorFlow, z knows nothing of the first weights, so they fade at the first steps; and a
// change of lr changes the meaning of z.
//
// Source: McMahan et al., "Ad Click Prediction: a View from the Trenches", KDD 2013, algorithm 1
// (with its lambda_1 = l1, lambda_2 = 2 * l2, beta = 0), as TensorFlow's ApplyFtrl computes it,
// with the defaults of its FtrlOptimizer: learning_rate_power -0.5, initial_accumulator 0.1, l1 0,
// l2 0.
#include <fmt/format.h>

#include "ps/optimizers/optimizers.h"

namespace muster::ps {
namespace {

// Below it, b^p / lr may be more than float32 holds: the step is left out, as if the rate were 0.
constexpr float kLeastRate = 1e-18f;

class Ftrl final : public Optimizer {
 public:
  Ftrl(float power, float initial, float l1, float l2)
      : power_(power), initial_(initial), l1_(l1), l2_(l2) {}
  const char* name() const override { return "ftrl"; }
  std::vector<std::string> slot_names() const override {
    return {"ftrl_accumulator", "ftrl_linear"};
  }
  float slot_init(int i) const override { return i == 0 ? initial_ : 0; }
  void Apply(Stream& stream, const StepInfo& info, std::span<const float> grad,
             std::span<const float> w, std::span<float> w_next,
             std::span<const std::span<float>> slots) const override {
    if (info.learning_rate < kLeastRate) {
      if (w_next.data() != w.data()) {
        stream.device().ops().Copy(stream, w_next.data(), w.data(), w.size_bytes(),
                                   CopyDirection::kDeviceToDevice);
      }
      return;
    }
    const FtrlFactors factors = {power_, 1 / info.learning_rate, l1_, 2 * l2_};
    stream.device().ops().FtrlUpdate(stream, MakeUpdateInput(info, grad, w, w_next), factors,
                                     slots[0].data(), slots[1].data());
  }

 private:
  const float power_;
  const float initial_;
  const float l1_;
  const float l2_;
};

}  // namespace

OptimizerOr MakeFtrl(const OptimizerParams& params) {
  ASSIGN_OR_RETURN(const float initial, ReadParam(params, "initial_accumulator", 0.1, 0, 1e30));
  ASSIGN_OR_RETURN(const float l1, ReadParam(params, "l1", 0, 0, 1e30));
  ASSIGN_OR_RETURN(const float l2, ReadParam(params, "l2", 0, 0, 1e30));
  const auto given = params.find("learning_rate_power");
  const double power = given == params.end() ? -0.5 : given->second;
  if (!(power >= -1 && power <= 0)) {
    return absl::InvalidArgumentError(
        fmt::format("learning_rate_power is {}; it must be from -1 to 0", power));
  }
  if (power != 0 && initial == 0 && l2 == 0) {
    return absl::InvalidArgumentError(
        "initial_accumulator and l2 are both 0, so a zero gradient would give 0/0; make one of "
        "them positive");
  }
  return std::make_unique<const Ftrl>(static_cast<float>(-power), initial, l1, l2);
}

}  // namespace muster::ps
