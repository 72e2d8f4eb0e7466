#include "tests/harness/toy_module.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/philox.h"

namespace muster::harness {
namespace {

constexpr int64_t kInputs = 16, kHidden = 32, kClasses = 4;

class ToyDataset : public worker::Dataset {
 public:
  ToyDataset(int64_t size, uint64_t stream, uint64_t seed, ToyOptions options)
      : size_(size), stream_(stream), seed_(seed), options_(options) {}
  int64_t size() const override { return size_; }
  int64_t input_size() const override { return kInputs; }
  std::string Fingerprint() const override { return fmt::format("{} of {};", size_, stream_); }
  absl::Status Get(int64_t index, int64_t draw, std::span<float> input,
                   int32_t* label) const override {
    if (options_.before_get && stream_ == 1) options_.before_get(draw);
    if (draw != 0 && draw == options_.fail_draw) {
      return absl::DataLossError("toy sample cannot be read");
    }
    *label = static_cast<int32_t>(index % kClasses);
    for (int64_t i = 0; i < kInputs; ++i) {
      const PhiloxBlock random =
          Philox(DeriveKey(seed_, stream_), static_cast<uint64_t>(index * kInputs + i));
      const float noise = UniformFloat(random[0]) + UniformFloat(random[1]) - 1.0f;
      input[i] = (i % kClasses == *label ? 1.0f : 0.0f) + noise;
    }
    if (draw != 0 && draw == options_.poison_draw) {
      input[0] = std::numeric_limits<float>::infinity();
    }
    return absl::OkStatus();
  }

 private:
  const int64_t size_;
  const uint64_t stream_, seed_;
  const ToyOptions options_;
};

// y = x W + b, rows of x one by one.
void Dense(const float* x, const float* w, const float* b, float* y, int64_t in, int64_t out) {
  for (int64_t o = 0; o < out; ++o) y[o] = b[o];
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t o = 0; o < out; ++o) y[o] += x[i] * w[i * out + o];
  }
}

class ToyModel : public worker::Model {
 public:
  ToyModel() {
    const auto weights = [](const char* name, int64_t in, int64_t out) {
      ps::ParamSpec spec;
      spec.name = name;
      spec.shape = {in, out};
      spec.init = {ps::Init::Kind::kTruncatedNormal, 0.3f};
      return spec;
    };
    const auto bias = [](const char* name, int64_t out) {
      ps::ParamSpec spec;
      spec.name = name;
      spec.shape = {out};
      return spec;
    };
    params_ = {weights("hidden/weights", kInputs, kHidden), bias("hidden/bias", kHidden),
               weights("logits/weights", kHidden, kClasses), bias("logits/bias", kClasses)};
  }
  const std::vector<ps::ParamSpec>& params() const override { return params_; }
  absl::Status Prepare(const ps::ParamTable& table, int64_t max_batch) override {
    for (int i = 0; i < 4; ++i) at_[i] = table.offset(i);
    hidden_.resize(max_batch * kHidden);
    probabilities_.resize(max_batch * kClasses);
    return absl::OkStatus();
  }
  void Forward(std::span<const float> w, const worker::Batch& batch,
               const worker::ItemKey&) override {
    batch_ = batch;
    Predict(w, batch, probabilities_);
    double loss = 0;
    for (int64_t row = 0; row < batch.size; ++row) {
      float* p = &probabilities_[row * kClasses];
      const float top = *std::max_element(p, p + kClasses);
      float sum = 0;
      for (int64_t c = 0; c < kClasses; ++c) sum += p[c] = std::exp(p[c] - top);
      for (int64_t c = 0; c < kClasses; ++c) p[c] /= sum;
      loss -= std::log(std::max(p[batch.labels[row]], 1e-30f));
    }
    loss_ = static_cast<float>(loss / static_cast<double>(batch.size));
  }
  float Loss() override { return loss_; }
  void Backward(std::span<const float> w, std::span<float> g,
                const worker::OnGrad& on_grad) override {
    std::fill(g.begin(), g.end(), 0.0f);
    const float scale = 1.0f / static_cast<float>(batch_.size);
    std::vector<float> d_hidden(batch_.size * kHidden);
    for (int64_t row = 0; row < batch_.size; ++row) {
      for (int64_t c = 0; c < kClasses; ++c) {
        const float d =
            (probabilities_[row * kClasses + c] - (batch_.labels[row] == c ? 1.0f : 0.0f)) * scale;
        g[at_[3] + c] += d;
        for (int64_t h = 0; h < kHidden; ++h) {
          const float a = hidden_[row * kHidden + h];
          g[at_[2] + h * kClasses + c] += a * d;
          d_hidden[row * kHidden + h] += w[at_[2] + h * kClasses + c] * d * (1 - a * a);
        }
      }
    }
    on_grad(3);
    on_grad(2);
    for (int64_t row = 0; row < batch_.size; ++row) {
      for (int64_t h = 0; h < kHidden; ++h) {
        const float d = d_hidden[row * kHidden + h];
        g[at_[1] + h] += d;
        for (int64_t i = 0; i < kInputs; ++i) {
          g[at_[0] + i * kHidden + h] += batch_.inputs[row * kInputs + i] * d;
        }
      }
    }
    on_grad(1);
    on_grad(0);
  }
  void Predict(std::span<const float> w, const worker::Batch& batch,
               std::span<float> logits) override {
    for (int64_t row = 0; row < batch.size; ++row) {
      float* hidden = &hidden_[row * kHidden];
      Dense(&batch.inputs[row * kInputs], &w[at_[0]], &w[at_[1]], hidden, kInputs, kHidden);
      for (int64_t h = 0; h < kHidden; ++h) hidden[h] = std::tanh(hidden[h]);
      Dense(hidden, &w[at_[2]], &w[at_[3]], &logits[row * kClasses], kHidden, kClasses);
    }
  }
  int64_t num_classes() const override { return kClasses; }
  int64_t input_size() const override { return kInputs; }
  double flops_per_sample() const override { return 6.0 * kHidden * (kInputs + kClasses); }

 private:
  std::vector<ps::ParamSpec> params_;
  int64_t at_[4] = {};
  float loss_ = 0;
  worker::Batch batch_;
  std::vector<float> hidden_, probabilities_;  // [batch, hidden], [batch, classes]
};

class ToyModule : public worker::Module {
 public:
  explicit ToyModule(ToyOptions options) : options_(options) {}
  std::unique_ptr<worker::Model> MakeModel(Device&) const override {
    return std::make_unique<ToyModel>();
  }
  absl::StatusOr<std::shared_ptr<const worker::Dataset>> MakeDataset(worker::Split split,
                                                                     uint64_t seed,
                                                                     Log&) const override {
    const bool training = split == worker::Split::kTraining;
    return std::make_shared<ToyDataset>(training ? options_.samples : options_.samples / 4,
                                        static_cast<uint64_t>(split) + 1, seed, options_);
  }
  std::vector<std::string> labels() const override { return {"north", "east", "south", "west"}; }

 private:
  const ToyOptions options_;
};

}  // namespace

std::unique_ptr<worker::Module> MakeToyModule(ToyOptions options) {
  return std::make_unique<ToyModule>(options);
}

}  // namespace muster::harness
