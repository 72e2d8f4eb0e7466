#include "worker/layers/relu_dropout.h"

#include "worker/layers/dropout.h"

namespace muster::worker {

absl::Status ReluDropout::Prepare(Device& device, int64_t max_batch) {
  ASSIGN_OR_RETURN(mask_, Buffer::Make(device, max_batch * MaskWords(input_shape().size()) *
                                                   SizeOf(DType::kUint32)));
  return absl::OkStatus();
}

Tensor ReluDropout::Mask(int64_t batch) const {
  return {mask_.data<uint32_t>(), {batch, MaskWords(input_shape().size())}};
}

void ReluDropout::Forward(const Pass& pass, ConstTensor x, Tensor y) {
  muster::ReluDropout(pass.stream, DropoutOf(pass, name(), rate_), x, y,
                      pass.training ? Mask(x.dim(0)) : Tensor(), pass.bias);
}

void ReluDropout::Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                           const OnLayerGrad&) {
  if (!want_dx) return;
  MaskedScale(pass.stream, Mask(dy.dim(0)), DropoutOf(pass, name(), rate_).scale(), dy, x);
}

}  // namespace muster::worker
