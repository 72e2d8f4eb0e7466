// Stochastic gradient descent.
//
//   g = clip(scale * sum) + weight_decay * w
//   w = w - lr * g
//
// Source: Robbins and Monro, "A Stochastic Approximation Method", 1951.
#include "ps/optimizers/optimizers.h"

namespace muster::ps {
namespace {

class Sgd final : public Optimizer {
 public:
  const char* name() const override { return "sgd"; }
  std::vector<std::string> slot_names() const override { return {}; }
  float slot_init(int /*i*/) const override { return 0; }
  void Apply(Stream& stream, const StepInfo& info, std::span<const float> grad,
             std::span<const float> w, std::span<float> w_next,
             std::span<const std::span<float>> /*slots*/) const override {
    stream.device().ops().SgdUpdate(stream, MakeUpdateInput(info, grad, w, w_next));
  }
};

}  // namespace

OptimizerOr MakeSgd(const OptimizerParams& /*params*/) { return std::make_unique<const Sgd>(); }

}  // namespace muster::ps
