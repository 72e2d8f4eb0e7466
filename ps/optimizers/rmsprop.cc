// RMSProp: each element's rate is divided by the root of a decaying average of its squares;
// optionally centered (by their variance instead) and with momentum.
//
//   g = clip(scale * sum) + weight_decay * w
//   s = rho * s + (1 - rho) * g^2                    s starts at 1
//   c = rho * c + (1 - rho) * g                      only centered; c starts at 0
//   u = momentum * u + lr * g / sqrt(s - c^2 + epsilon)
//   w = w - u
//
// Not centered: c = 0. The variance s - c^2, which rounding can bring below 0, is at least 0. The
// arrays u and c are kept only where momentum and centered ask for them.
//
// Source: Tieleman and Hinton, lecture 6.5, COURSERA "Neural Networks for Machine Learning", 2012;
// centered: Graves, "Generating Sequences With Recurrent Neural Networks", 2013. As TensorFlow's
// ApplyRMSProp and ApplyCenteredRMSProp compute it (epsilon inside the root, lr inside u), with
// the defaults of its RMSPropOptimizer: rho 0.9 (there "decay"), momentum 0, epsilon 1e-10.
#include <fmt/format.h>

#include "ps/optimizers/optimizers.h"

namespace muster::ps {
namespace {

class Rmsprop final : public Optimizer {
 public:
  Rmsprop(const RmspropFactors& factors, bool centered) : factors_(factors) {
    if (factors.momentum > 0) {
      velocity_ = static_cast<int>(slots_.size());
      slots_.emplace_back("rmsprop_velocity");
    }
    if (centered) {
      mean_ = static_cast<int>(slots_.size());
      slots_.emplace_back("rmsprop_mean");
    }
  }
  const char* name() const override { return "rmsprop"; }
  std::vector<std::string> slot_names() const override { return slots_; }
  float slot_init(int i) const override { return i == 0 ? 1 : 0; }
  void Apply(Stream& stream, const StepInfo& info, std::span<const float> grad,
             std::span<const float> w, std::span<float> w_next,
             std::span<const std::span<float>> slots) const override {
    const auto array = [&](int i) {
      return i < 0 ? nullptr : slots[static_cast<size_t>(i)].data();
    };
    stream.device().ops().RmspropUpdate(stream, MakeUpdateInput(info, grad, w, w_next), factors_,
                                        array(0), array(velocity_), array(mean_));
  }

 private:
  const RmspropFactors factors_;
  std::vector<std::string> slots_ = {"rmsprop_square"};
  int velocity_ = -1, mean_ = -1;  // places among the slots; -1: has none
};

}  // namespace

OptimizerOr MakeRmsprop(const OptimizerParams& params) {
  ASSIGN_OR_RETURN(const float rho, ReadParam(params, "rho", 0.9, 0, 1));
  ASSIGN_OR_RETURN(const float momentum, ReadParam(params, "momentum", 0, 0, 1));
  ASSIGN_OR_RETURN(const float epsilon, ReadParam(params, "epsilon", 1e-10, 1e-30, 1e30));
  const auto centered = params.find("centered");
  const double choice = centered == params.end() ? 0 : centered->second;
  if (choice != 0 && choice != 1) {
    return absl::InvalidArgumentError(fmt::format("centered is {}; it must be 0 or 1", choice));
  }
  const RmspropFactors factors = {rho, static_cast<float>(1 - double{rho}), momentum, epsilon};
  return std::make_unique<const Rmsprop>(factors, choice == 1);
}

}  // namespace muster::ps
