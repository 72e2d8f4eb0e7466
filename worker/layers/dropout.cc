#include "worker/layers/dropout.h"

namespace muster::worker {

DropoutArgs DropoutOf(const Pass& pass, const std::string& name, float rate) {
  return {DeriveKey(pass.item.seed, HashName(name), static_cast<uint64_t>(pass.item.replica)),
          pass.item.step, pass.training ? rate : 0.0f, pass.first_sample, pass.step_at};
}

void Dropout::Forward(const Pass& pass, ConstTensor x, Tensor y) {
  const DropoutArgs dropout = DropoutOf(pass, name(), rate_);
  if (dropout.rate > 0) muster::Dropout(pass.stream, dropout, x, y);
}

void Dropout::Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx, const OnLayerGrad&) {
  const DropoutArgs dropout = DropoutOf(pass, name(), rate_);
  if (want_dx && dropout.rate > 0) muster::Dropout(pass.stream, dropout, dy, x);
}

}  // namespace muster::worker
