#include "worker/models/sequential.h"

#include <algorithm>
#include <cstring>

#include "telemetry/check.h"

namespace muster::worker {

Sequential::Sequential(Device& device, std::vector<std::unique_ptr<Layer>> layers)
    : stream_(device), layers_(std::move(layers)) {
  CHECK(!layers_.empty() && !layers_.front()->in_place());
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (i > 0) CHECK_EQ(layers_[i]->input_size(), layers_[i - 1]->output_size());
    first_param_.push_back(static_cast<ps::ParamId>(params_.size()));
    for (ps::ParamSpec& spec : layers_[i]->params()) params_.push_back(std::move(spec));
  }
}

void Sequential::Prepare(const ps::ParamTable& table, int64_t max_batch) {
  max_batch_ = max_batch;
  offsets_.clear();
  for (size_t p = 0; p < params_.size(); ++p) {
    offsets_.push_back(table.offset(static_cast<ps::ParamId>(p)));
  }
  buffer_.clear();
  activations_.clear();
  int64_t largest_gradient = 0;
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (!layers_[i]->in_place()) {
      activations_.emplace_back(stream_.device(), max_batch * layers_[i]->output_size());
    }
    buffer_.push_back(activations_.size() - 1);
    // The gradient of a layer's output lies in gradients_ unless the layer behind writes it over
    // the activation.
    const bool over = i + 1 < layers_.size() && layers_[i + 1]->grad_over_input();
    if (!over) largest_gradient = std::max(largest_gradient, layers_[i]->output_size());
  }
  for (Buffer& gradient : gradients_) {
    gradient = Buffer(stream_.device(), max_batch * largest_gradient);
  }
}

const float* Sequential::Input(size_t i) const {
  return i == 0 ? batch_.inputs.data() : Output(i - 1);
}

Pass Sequential::PassFor(size_t i, std::span<const float> weights, bool training) const {
  Pass pass{stream_, batch_.size, training, key_, {}, {}};
  const auto count = layers_[i]->params().size();
  for (size_t p = 0; p < count; ++p) {
    pass.weights.push_back(weights.data() + offsets_[first_param_[i] + p]);
  }
  return pass;
}

void Sequential::Forward(std::span<const float> weights, const Batch& batch, bool training,
                         const ItemKey& key) {
  CHECK_LE(batch.size, max_batch_);
  batch_ = batch;
  key_ = key;
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i]->Forward(PassFor(i, weights, training), Input(i), Output(i));
  }
}

float Sequential::Loss(std::span<const float> weights, const Batch& batch, const ItemKey& key) {
  Forward(weights, batch, /*training=*/true, key);
  return SoftmaxCrossEntropy(stream_, batch.size, num_classes(), Output(layers_.size() - 1),
                             batch.labels.data(), gradients_[0].data());
}

void Sequential::Backward(std::span<const float> weights, std::span<float> grads,
                          const OnGrad& on_grad) {
  float* dy = gradients_[0].data();
  int spare = 1;  // the gradient buffer that dy does not lie in
  for (size_t i = layers_.size(); i-- > 0;) {
    Layer& layer = *layers_[i];
    Pass pass = PassFor(i, weights, /*training=*/true);
    for (size_t p = 0; p < pass.weights.size(); ++p) {
      pass.grads.push_back(grads.data() + offsets_[first_param_[i] + p]);
    }
    float* dx = nullptr;
    if (layer.in_place()) {
      dx = dy;
    } else if (layer.grad_over_input()) {
      dx = Output(i - 1);
    } else if (i > 0) {
      dx = gradients_[spare].data();
      spare = 1 - spare;
    }
    layer.Backward(pass, Input(i), Output(i), dy, dx,
                   [&](int param) { on_grad(first_param_[i] + static_cast<ps::ParamId>(param)); });
    dy = dx;
  }
}

void Sequential::Predict(std::span<const float> weights, const Batch& batch,
                         std::span<float> logits) {
  Forward(weights, batch, /*training=*/false, {});
  std::memcpy(logits.data(), Output(layers_.size() - 1),
              static_cast<size_t>(batch.size * num_classes()) * sizeof(float));
}

std::vector<LayerDescription> Sequential::layers() const {
  std::vector<LayerDescription> all;
  for (const auto& layer : layers_) {
    for (LayerDescription& description : layer->Describe()) all.push_back(std::move(description));
  }
  return all;
}

double Sequential::flops_per_sample() const {
  double flops = 0;
  for (size_t i = 0; i < layers_.size(); ++i) flops += layers_[i]->flops_per_sample(i == 0);
  return flops;
}

}  // namespace muster::worker
