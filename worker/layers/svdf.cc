#include "worker/layers/svdf.h"

#include <algorithm>

#include "telemetry/check.h"

namespace muster::worker {

Svdf::Svdf(std::string name, int64_t frames, int64_t bins, int64_t units, int64_t rank)
    : Layer(std::move(name), frames * bins, units),
      frames_(frames),
      bins_(bins),
      units_(units),
      rank_(rank),
      activations_(frames * units * rank) {}

std::vector<ps::ParamSpec> Svdf::params() const {
  ps::ParamSpec frequency, time, bias;
  frequency.name = "weights_frequency";
  frequency.shape = {bins_, units_ * rank_};
  time.name = "weights_time";
  time.shape = {frames_, units_ * rank_};
  frequency.init = time.init = {ps::Init::Kind::kTruncatedNormal, 0.01f};
  bias.name = "bias";
  bias.shape = {units_};
  bias.decay = false;
  return {frequency, time, bias};
}

void Svdf::Forward(const Pass& pass, const float* x, float* y) {
  const int64_t filters = units_ * rank_;
  const float* time = pass.weights[1];
  const float* bias = pass.weights[2];
  std::vector<float> sums(filters);
  for (int64_t n = 0; n < pass.batch; ++n) {
    MatMul(pass.stream, {.m = frames_, .n = filters, .k = bins_}, x + n * input_size(),
           pass.weights[0], 0.0f, activations_.data());
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (int64_t t = 0; t < frames_; ++t) {
      for (int64_t f = 0; f < filters; ++f) {
        sums[f] += activations_[t * filters + f] * time[t * filters + f];
      }
    }
    for (int64_t u = 0; u < units_; ++u) {
      float unit = bias[u];
      for (int64_t r = 0; r < rank_; ++r) unit += sums[u * rank_ + r];
      y[n * units_ + u] = unit > 0 ? unit : 0.0f;
    }
  }
}

void Svdf::Backward(const Pass& pass, const float* x, const float* /*y*/, const float* dy,
                    float* dx, const std::function<void(int param)>& done) {
  CHECK(dx == nullptr);
  const int64_t filters = units_ * rank_;
  const float* time = pass.weights[1];
  float* d_time = pass.grads[1];
  BiasGrad(pass.stream, pass.batch, units_, dy, pass.grads[2]);
  done(2);
  std::fill(d_time, d_time + frames_ * filters, 0.0f);
  std::vector<float> d_sums(filters);
  for (int64_t n = 0; n < pass.batch; ++n) {
    // The activations are made again rather than kept: a matrix product is cheaper than batch times
    // their memory.
    MatMul(pass.stream, {.m = frames_, .n = filters, .k = bins_}, x + n * input_size(),
           pass.weights[0], 0.0f, activations_.data());
    for (int64_t f = 0; f < filters; ++f) d_sums[f] = dy[n * units_ + f / rank_];
    for (int64_t t = 0; t < frames_; ++t) {
      for (int64_t f = 0; f < filters; ++f) {
        float& a = activations_[t * filters + f];
        d_time[t * filters + f] += d_sums[f] * a;
        a = d_sums[f] * time[t * filters + f];
      }
    }
    MatMul(pass.stream, {.m = bins_, .n = filters, .k = frames_, .trans_a = true},
           x + n * input_size(), activations_.data(), n == 0 ? 0.0f : 1.0f, pass.grads[0]);
  }
  done(1);
  done(0);
}

std::vector<LayerDescription> Svdf::Describe() const {
  return {{"svdf",
           name(),
           {frames_, bins_},
           {units_},
           {{"rank", rank_}},
           {"weights_frequency", "weights_time", "bias"}},
          {"relu", name() + "_relu", {units_}, {units_}, {}, {}}};
}

double Svdf::flops_per_sample(bool /*first*/) const {
  const auto filters = static_cast<double>(units_ * rank_);
  return 2.0 * static_cast<double>(frames_) * filters * (2.0 * static_cast<double>(bins_) + 3);
}

}  // namespace muster::worker
