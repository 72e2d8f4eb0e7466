#include "worker/models/sequential.h"

#include <algorithm>

#include "telemetry/check.h"
#include "telemetry/fatal.h"

namespace muster::worker {
namespace {

// Of gradients that wait for the end of a part.
constexpr int64_t kPartBytes = 256 << 10;

// A device that fails in the middle of a step leaves nothing to go on with.
void CheckDevice(const absl::Status& status) {
  if (!status.ok()) Fatal(status);
}

Shape ShapeOf(const ps::ParamSpec& spec) {
  Shape shape;
  for (const int64_t dim : spec.shape) shape.Append(dim);
  return shape;
}

}  // namespace

Sequential::Sequential(Device& device, std::vector<std::unique_ptr<Layer>> layers)
    : device_(device),
      stream_(device.MakeStream()),
      replays_(stream_->captures() ? std::make_unique<Replays>(*stream_) : nullptr),
      layers_(std::move(layers)) {
  CHECK(!layers_.empty());
  for (size_t i = 0; i < layers_.size(); ++i) {
    if (i > 0) CHECK_EQ(layers_[i]->input_shape().size(), layers_[i - 1]->output_shape().size());
    first_param_.push_back(static_cast<ps::ParamId>(params_.size()));
    for (ps::ParamSpec& spec : layers_[i]->params()) params_.push_back(std::move(spec));
  }
  first_param_.push_back(static_cast<ps::ParamId>(params_.size()));
}

absl::Status Sequential::Prepare(const ps::ParamTable& table, int64_t max_batch) {
  CHECK_EQ(table.specs().size(), params_.size());
  CHECK_GE(max_batch, 1);
  max_batch_ = max_batch;
  for (size_t p = 0; p < params_.size(); ++p) {
    offsets_.push_back(table.offset(static_cast<ps::ParamId>(p)));
  }
  const auto add_buffer = [this](const Shape& shape) -> absl::Status {
    ASSIGN_OR_RETURN(buffers_.emplace_back(),
                     Buffer::Make(device_, max_batch_ * shape.size() * SizeOf(DType::kFloat32)));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(add_buffer(layers_.front()->input_shape()));
  buffer_of_.push_back(0);
  for (const auto& layer : layers_) {
    RETURN_IF_ERROR(layer->Prepare(device_, max_batch_));
    if (!layer->in_place()) RETURN_IF_ERROR(add_buffer(layer->output_shape()));
    buffer_of_.push_back(buffers_.size() - 1);
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    const bool taken = i + 1 < layers_.size() && layers_[i + 1]->takes_bias();
    left_bias_.push_back(taken ? layers_[i]->LeaveBias() : std::nullopt);
  }
  ASSIGN_OR_RETURN(labels_, Buffer::Make(device_, max_batch_ * SizeOf(DType::kInt32)));
  ASSIGN_OR_RETURN(losses_, Buffer::Make(device_, max_batch_ * SizeOf(DType::kFloat32)));
  if (replays_ == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(step_, Buffer::Make(device_, sizeof(int64_t)));
  MakeParts();
  return absl::OkStatus();
}

void Sequential::MakeParts() {
  int64_t bytes = 0;
  for (size_t i = layers_.size(), end = i; i-- > 0;) {
    for (ps::ParamId p = first_param_[i]; p < first_param_[i + 1]; ++p) {
      bytes += params_[static_cast<size_t>(p)].size() * int64_t{SizeOf(DType::kFloat32)};
    }
    const bool last = first_param_[i] == 0;
    if (!last && bytes < kPartBytes) continue;
    parts_.push_back({i, end});
    if (last) return;
    end = i;
    bytes = 0;
  }
}

Tensor Sequential::Activation(size_t i, const Shape& shape) const {
  return {buffers_[buffer_of_[i]].data<float>(), shape.WithBatch(batch_size_)};
}

Tensor Sequential::Logits() const { return Activation(layers_.size(), Shape{num_classes()}); }

void Sequential::TakeInputs(std::span<const float> inputs) {
  CHECK_LE(batch_size_, max_batch_);
  Copy(*stream_, inputs, Activation(0, Shape{input_size()}));
}

void Sequential::RunLayers(std::span<const float> weights, bool training) {
  const int64_t* const step_at = training && replays_ != nullptr ? step_.data<int64_t>() : nullptr;
  std::vector<ConstTensor> of_layer;
  ChannelBias bias;
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = *layers_[i];
    of_layer.clear();
    for (ps::ParamId p = first_param_[i]; p < first_param_[i + 1]; ++p) {
      of_layer.emplace_back(weights.data() + offsets_[p], ShapeOf(params_[p]));
    }
    layer.Forward(
        {*stream_, training, item_, of_layer, {}, first_sample_, whole_batch_, step_at, bias},
        Activation(i, layer.input_shape()), Activation(i + 1, layer.output_shape()));
    bias = {};
    if (left_bias_[i]) {
      const ConstTensor& left = of_layer[static_cast<size_t>(*left_bias_[i])];
      bias = {left.data<float>(), left.size()};
    }
  }
}

void Sequential::Forward(std::span<const float> weights, const Batch& batch, const ItemKey& key) {
  CHECK_GE(batch.size, 1);
  batch_size_ = batch.size;
  first_sample_ = batch.first;
  whole_batch_ = batch.whole > 0 ? batch.whole : batch.size;
  item_ = key;
  const Tensor labels(labels_.data<int32_t>(), {batch_size_});
  TakeInputs(batch.inputs);
  Copy(*stream_, batch.labels, labels);
  const auto run = [&] {
    RunLayers(weights, /*training=*/true);
    const Tensor losses(losses_.data<float>(), {batch_size_});
    SoftmaxCrossEntropy(*stream_, Logits(), labels, whole_batch_, losses, Logits());
  };
  if (replays_ == nullptr) return run();
  device_.ops().Store(*stream_, key.step, step_.data<int64_t>());
  replays_->Run(KeyOf(parts_.size(), weights, {}), run);
}

Replays::Key Sequential::KeyOf(size_t part, std::span<const float> weights,
                               std::span<float> grads) const {
  return {part,           batch_size_,  first_sample_, whole_batch_,
          weights.data(), grads.data(), item_.seed,    item_.replica};
}

float Sequential::Loss() {
  std::vector<float> by_sample(batch_size_);
  CheckDevice(CopyToHost(*stream_, {losses_.data<float>(), {batch_size_}}, by_sample));
  double sum = 0;
  for (const float loss : by_sample) sum += loss;
  return static_cast<float>(sum / static_cast<double>(whole_batch_));
}

void Sequential::Backward(std::span<const float> weights, std::span<float> grads,
                          const OnGrad& on_grad) {
  if (replays_ == nullptr) return BackwardThrough({0, layers_.size()}, weights, grads, on_grad);
  for (size_t p = 0; p < parts_.size(); ++p) {
    replays_->Run(KeyOf(p, weights, grads),
                  [&] { BackwardThrough(parts_[p], weights, grads, [](ps::ParamId) {}); });
    const ps::ParamId begin = first_param_[parts_[p].begin];
    for (ps::ParamId param = first_param_[parts_[p].end]; param-- > begin;) on_grad(param);
  }
}

void Sequential::BackwardThrough(Part part, std::span<const float> weights, std::span<float> grads,
                                 const OnGrad& on_grad) {
  const int64_t* const step_at = replays_ != nullptr ? step_.data<int64_t>() : nullptr;
  std::vector<ConstTensor> layer_weights;
  std::vector<Tensor> layer_grads;
  for (size_t i = part.end; i-- > part.begin;) {
    Layer& layer = *layers_[i];
    layer_weights.clear();
    layer_grads.clear();
    for (ps::ParamId p = first_param_[i]; p < first_param_[i + 1]; ++p) {
      layer_weights.emplace_back(weights.data() + offsets_[p], ShapeOf(params_[p]));
      layer_grads.emplace_back(grads.data() + offsets_[p], ShapeOf(params_[p]));
    }
    // Nobody asks for the gradient of the inputs, nor of a layer before which nothing can be
    // learnt.
    const bool want_dx = first_param_[i] > 0;
    layer.Backward({*stream_, /*training=*/true, item_, layer_weights, layer_grads, first_sample_,
                    whole_batch_, step_at},
                   Activation(i, layer.input_shape()), Activation(i + 1, layer.output_shape()),
                   want_dx, [&](int param) { on_grad(first_param_[i] + param); });
    if (!want_dx) return;
  }
}

void Sequential::Predict(std::span<const float> weights, const Batch& batch,
                         std::span<float> logits) {
  item_ = {};
  first_sample_ = whole_batch_ = 0;
  for (int64_t begin = 0; begin < batch.size; begin += max_batch_) {
    batch_size_ = std::min(max_batch_, batch.size - begin);
    TakeInputs(batch.inputs.subspan(begin * input_size(), batch_size_ * input_size()));
    const auto run = [&] { RunLayers(weights, /*training=*/false); };
    if (replays_ == nullptr) {
      run();
    } else {
      replays_->Run(KeyOf(parts_.size() + 1, weights, {}), run);
    }
    device_.ops().Copy(*stream_, logits.data() + begin * num_classes(), Logits().data<float>(),
                       batch_size_ * num_classes() * SizeOf(DType::kFloat32),
                       CopyDirection::kDeviceToHost);
  }
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
  for (size_t i = 0; i < layers_.size(); ++i) flops += layers_[i]->flops(first_param_[i] > 0);
  return flops;
}

}  // namespace muster::worker
