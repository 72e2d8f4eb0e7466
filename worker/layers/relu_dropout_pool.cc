#include "worker/layers/relu_dropout_pool.h"

#include "worker/layers/dropout.h"

namespace muster::worker {
namespace {

Window WindowOf(const Shape& input, Extent window, Extent stride) {
  CHECK_EQ(input.rank(), 3);
  return Window::Make({input[0], input[1]}, window, stride, Padding::kSame);
}

Shape OutputOf(const Shape& input, const Window& window) {
  return {window.out.h, window.out.w, input[2]};
}

}  // namespace

ReluDropoutPool::ReluDropoutPool(std::string name, const Shape& input, Extent window, Extent stride,
                                 float rate)
    : Layer(std::move(name), input, OutputOf(input, WindowOf(input, window, stride))),
      window_(WindowOf(input, window, stride)),
      rate_(rate) {}

absl::Status ReluDropoutPool::Prepare(Device& device, int64_t max_batch) {
  ASSIGN_OR_RETURN(winners_, Buffer::Make(device, max_batch * output_shape().size()));
  return absl::OkStatus();
}

PoolArgs ReluDropoutPool::ArgsOf(const Pass& pass) const {
  return {window_, input_shape()[2], /*relu=*/true, DropoutOf(pass, name(), rate_),
          pass.bias.values};
}

Tensor ReluDropoutPool::Winners(int64_t batch) const {
  return {winners_.data<uint8_t>(), output_shape().WithBatch(batch)};
}

void ReluDropoutPool::Forward(const Pass& pass, ConstTensor x, Tensor y) {
  MaxPool(pass.stream, ArgsOf(pass), x, y, pass.training ? Winners(x.dim(0)) : Tensor());
}

void ReluDropoutPool::Backward(const Pass& pass, Tensor x, Tensor dy, bool want_dx,
                               const OnLayerGrad&) {
  if (want_dx) MaxPoolGradient(pass.stream, ArgsOf(pass), Winners(dy.dim(0)), dy, x);
}

std::vector<LayerDescription> ReluDropoutPool::Describe() const {
  LayerDescription relu = Description("relu");
  relu.name += "_relu";
  relu.output_shape = relu.input_shape;
  LayerDescription pool = Description("max_pool");
  pool.numbers = {{"window_h", window_.kernel.h},
                  {"window_w", window_.kernel.w},
                  {"stride_h", window_.stride.h},
                  {"stride_w", window_.stride.w},
                  {"same", 1}};
  return {relu, pool};
}

}  // namespace muster::worker
