#include "worker/layers/dropout.h"

#include "telemetry/check.h"

namespace muster::worker {

void Dropout::Forward(const Pass& pass, const float* x, float* y) {
  CHECK(x == y);
  if (pass.training) {
    muster::Dropout(pass.stream, pass.batch * input_size(), keep_, RandomKey(pass), x, y);
  }
}

void Dropout::Backward(const Pass& pass, const float* /*x*/, const float* /*y*/, const float* dy,
                       float* dx, const std::function<void(int param)>& /*done*/) {
  // The gradient of a mask is the mask.
  muster::Dropout(pass.stream, pass.batch * input_size(), keep_, RandomKey(pass), dy, dx);
}

void ReluDropout::Backward(const Pass& pass, const float* /*x*/, const float* y, const float* dy,
                           float* dx, const std::function<void(int param)>& /*done*/) {
  ReluDropoutGrad(pass.stream, pass.batch * input_size(), keep_, y, dy, dx);
}

ReluDropoutMaxPool::ReluDropoutMaxPool(std::string name, const PoolShape& shape, float keep)
    : Layer(std::move(name), shape.height * shape.width * shape.channels,
            shape.out_height() * shape.out_width() * shape.channels),
      shape_(shape),
      keep_(keep) {}

void ReluDropoutMaxPool::Forward(const Pass& pass, const float* x, float* y) {
  shape_.batch = pass.batch;
  if (pass.training) {
    // Over x: the values before dropout are needed no more, and the gradient goes there too.
    muster::Dropout(pass.stream, pass.batch * input_size(), keep_, RandomKey(pass), x,
                    const_cast<float*>(x));
  }
  MaxPool(pass.stream, shape_, x, y);
}

void ReluDropoutMaxPool::Backward(const Pass& pass, const float* x, const float* y, const float* dy,
                                  float* dx, const std::function<void(int param)>& /*done*/) {
  CHECK(x == dx);
  ReluDropoutMaxPoolGrad(pass.stream, shape_, keep_, y, dy, dx);
}

std::vector<LayerDescription> ReluDropoutMaxPool::Describe() const {
  return {{"max_pool",
           name(),
           {shape_.height, shape_.width, shape_.channels},
           {shape_.out_height(), shape_.out_width(), shape_.channels},
           {{"window_h", 2}, {"window_w", 2}, {"stride_h", 2}, {"stride_w", 2}, {"same", 1}},
           {}}};
}

}  // namespace muster::worker
