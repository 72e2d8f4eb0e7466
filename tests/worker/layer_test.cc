// Each layer's Backward by finite differences, and the promises of layer.h.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <numeric>

#include "tests/kernels/reference.h"
#include "worker/layers/batch_norm.h"
#include "worker/layers/conv2d.h"
#include "worker/layers/dense.h"
#include "worker/layers/dropout.h"
#include "worker/layers/layer_norm.h"
#include "worker/layers/relu_dropout.h"
#include "worker/layers/relu_dropout_pool.h"
#include "worker/layers/svdf.h"

namespace muster::worker {
namespace {

using muster::testing::Distinct;
using muster::testing::Uniform;

constexpr int64_t kBatch = 3;
// Inputs are at least 2 / (number of elements) apart and half that from 0, so a step below that
// passes no kink of a relu or a pool; between kinks every layer but the norms is linear in each of
// its inputs and weights, so there is no truncation error, whatever the step. That of a norm, whose
// groups of 15 values and more have a deviation above 1/2, is some step² = 2^-18 of a derivative.
constexpr double kStep = 0x1p-9;

// A layer with weights, an input and the loss Σ r · y for random r.
class Bench {
 public:
  explicit Bench(std::unique_ptr<Layer> layer) : layer_(std::move(layer)) {
    EXPECT_TRUE(layer_->Prepare(*device_, kBatch).ok());
    uint64_t seed = 1;
    for (const ps::ParamSpec& spec : layer_->params()) {
      weights_.push_back(Uniform(spec.size(), ++seed));
    }
    x_ = Distinct(layer_->input_shape().size() * kBatch, 100);
    r_ = Uniform(layer_->output_shape().size() * kBatch, 101);
  }

  double Loss() {
    Forward();
    const std::vector<float>& y = layer_->in_place() ? activation_ : y_;
    return std::inner_product(y.begin(), y.end(), r_.begin(), 0.0);
  }

  // The gradient by x, and those of the weights into grads(). Counts calls of on_grad.
  std::vector<float> Gradient(bool want_dx = true) {
    Forward();
    grads_.clear();
    for (const auto& w : weights_) grads_.emplace_back(w.size(), 7.0f);
    if (layer_->in_place()) activation_ = r_;
    std::vector<float>& dy = layer_->in_place() ? activation_ : (y_ = r_);
    done_.clear();
    const auto tensors = Tensors();
    layer_->Backward({*stream_, true, {1, 2, 3}, tensors, GradTensors()},
                     {activation_.data(), layer_->input_shape().WithBatch(kBatch)},
                     {dy.data(), layer_->output_shape().WithBatch(kBatch)}, want_dx,
                     [this](int param) { done_.push_back(param); });
    return activation_;
  }

  // d loss / d value, by moving it one step up and down.
  double Difference(float& value) {
    const float before = value;
    value = static_cast<float>(before + kStep);
    const double up = value, loss_up = Loss();
    value = static_cast<float>(before - kStep);
    const double down = value, loss_down = Loss();
    value = before;
    return (loss_up - loss_down) / (up - down);
  }

  // The loss sums over all outputs, each a float32 sum of `terms` products; their independent
  // roundings are divided by two steps.
  double Tolerance(int64_t terms) const {
    return muster::testing::Tolerance(terms) * std::sqrt(static_cast<double>(r_.size())) /
           (2 * kStep);
  }

  std::vector<std::vector<float>>& weights() { return weights_; }
  const std::vector<std::vector<float>>& grads() const { return grads_; }
  std::vector<float>& x() { return x_; }
  const std::vector<int>& done() const { return done_; }
  bool IsStatistic(size_t p) const {
    return layer_->params()[p].kind == ps::ParamSpec::Kind::kStatistic;
  }

 private:
  std::vector<ConstTensor> Tensors() const {
    std::vector<ConstTensor> tensors;
    const auto params = layer_->params();
    for (size_t p = 0; p < params.size(); ++p) {
      tensors.emplace_back(weights_[p].data(), ShapeOf(params[p]));
    }
    return tensors;
  }
  std::span<const Tensor> GradTensors() {
    grad_tensors_.clear();
    const auto params = layer_->params();
    for (size_t p = 0; p < params.size(); ++p) {
      grad_tensors_.emplace_back(grads_[p].data(), ShapeOf(params[p]));
    }
    return grad_tensors_;
  }
  static Shape ShapeOf(const ps::ParamSpec& spec) {
    Shape shape;
    for (const int64_t dim : spec.shape) shape.Append(dim);
    return shape;
  }
  void Forward() {
    activation_ = x_;
    y_.assign(r_.size(), 7.0f);
    const auto tensors = Tensors();
    layer_->Forward({*stream_, true, {1, 2, 3}, tensors, {}},
                    {activation_.data(), layer_->input_shape().WithBatch(kBatch)},
                    {layer_->in_place() ? activation_.data() : y_.data(),
                     layer_->output_shape().WithBatch(kBatch)});
  }

  const std::unique_ptr<Device> device_ = MakeCpuDevice(2);
  const std::unique_ptr<Stream> stream_ = device_->MakeStream();
  const std::unique_ptr<Layer> layer_;
  std::vector<std::vector<float>> weights_, grads_;
  std::vector<Tensor> grad_tensors_;
  std::vector<float> x_, y_, r_, activation_;
  std::vector<int> done_;
};

struct Case {
  const char* name;
  int64_t terms;  // of one output, and of one gradient
  std::unique_ptr<Layer> (*make)();
};

constexpr Extent kOne{1, 1}, kTwo{2, 2};

const Case kCases[] = {
    {"Dense", 40,
     [] {
       return std::unique_ptr<Layer>(new Dense("l", "", Shape{5, 3}, 7));
     }},
    {"ConvSameEvenKernel", 150,
     [] {
       return std::unique_ptr<Layer>(
           new Conv2d("l", "", Shape{6, 5, 1}, {4, 2}, kOne, Padding::kSame, 3));
     }},
    {"ConvStrides", 60,
     [] {
       return std::unique_ptr<Layer>(
           new Conv2d("l", "", Shape{7, 5, 2}, {3, 2}, kTwo, Padding::kSame, 3));
     }},
    {"ConvValid", 60,
     [] {
       return std::unique_ptr<Layer>(
           new Conv2d("l", "", Shape{6, 5, 1}, {6, 2}, kOne, Padding::kValid, 4));
     }},
    {"ConvManyChannels", 200,
     [] {
       return std::unique_ptr<Layer>(
           new Conv2d("l", "", Shape{3, 3, 16}, {2, 2}, kOne, Padding::kSame, 16));
     }},
    {"Relu", 1, [] { return std::unique_ptr<Layer>(new ReluDropout("l", Shape{40}, 0)); }},
    {"ReluDropout", 1,
     [] { return std::unique_ptr<Layer>(new ReluDropout("l", Shape{40}, 0.5f)); }},
    {"Dropout", 1, [] { return std::unique_ptr<Layer>(new Dropout("l", Shape{40}, 0.25f)); }},
    {"ReluPool", 1,
     [] {
       return std::unique_ptr<Layer>(new ReluDropoutPool("l", Shape{5, 3, 4}, kTwo, kTwo, 0));
     }},
    {"ReluDropoutPool", 1,
     [] {
       return std::unique_ptr<Layer>(new ReluDropoutPool("l", Shape{5, 3, 4}, kTwo, kTwo, 0.5f));
     }},
    {"ReluDropoutPoolOverlapping", 4,
     [] {
       return std::unique_ptr<Layer>(new ReluDropoutPool("l", Shape{5, 3, 4}, {3, 2}, kOne, 0.5f));
     }},
    {"Svdf", 80, [] { return std::unique_ptr<Layer>(new Svdf("l", 4, 5, 6, 2)); }},
    {"ConvWithoutBias", 150,
     [] {
       return std::unique_ptr<Layer>(
           new Conv2d("l", "", Shape{6, 5, 1}, {4, 2}, kOne, Padding::kSame, 3, false));
     }},
    {"BatchNormOfImages", 120,
     [] {
       return std::unique_ptr<Layer>(new BatchNorm("l", "", Shape{4, 5, 4}));
     }},
    {"LayerNorm", 120,
     [] {
       return std::unique_ptr<Layer>(new LayerNorm("l", "", Shape{4, 9}));
     }},
};

class LayerTest : public ::testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(All, LayerTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(LayerTest, GradientOfTheInputIsTheDifferenceQuotient) {
  Bench bench(GetParam().make());
  const std::vector<float> dx = bench.Gradient();
  ASSERT_LT(kStep, 1.0 / static_cast<double>(dx.size())) << "a step may pass a kink";
  for (size_t i = 0; i < dx.size(); ++i) {
    ASSERT_NEAR(dx[i], bench.Difference(bench.x()[i]), bench.Tolerance(GetParam().terms)) << i;
  }
}

TEST_P(LayerTest, GradientsOfTheWeightsAreTheDifferenceQuotients) {
  Bench bench(GetParam().make());
  bench.Gradient();
  const auto grads = bench.grads();
  for (size_t p = 0; p < grads.size(); ++p) {
    if (bench.IsStatistic(p)) continue;
    for (size_t i = 0; i < grads[p].size(); i += 1 + grads[p].size() / 200) {
      ASSERT_NEAR(grads[p][i], bench.Difference(bench.weights()[p][i]),
                  bench.Tolerance(GetParam().terms))
          << "param " << p << ", element " << i;
    }
  }
}

TEST_P(LayerTest, ReportsEachParameterOnceAndGradientsDoNotDependOnWantingDx) {
  Bench bench(GetParam().make());
  bench.Gradient();
  std::vector<int> done = bench.done();
  std::sort(done.begin(), done.end());
  std::vector<int> all(bench.weights().size());
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(done, all);
  const auto grads = bench.grads();
  bench.Gradient(/*want_dx=*/false);
  EXPECT_EQ(grads, bench.grads());
  EXPECT_EQ(bench.done().size(), all.size());
}

// x [batch, 2 pixels, 3 channels] as the neighbours of a minibatch, in shares: the sum of what the
// shares push for the channels' mean and variance.
std::vector<std::vector<float>> PushedStatistics(const std::vector<float>& x,
                                                 const std::vector<int64_t>& shares) {
  const auto device = MakeCpuDevice(1);
  const auto stream = device->MakeStream();
  const int64_t whole = std::accumulate(shares.begin(), shares.end(), int64_t{0});
  std::vector<std::vector<float>> pushed(2, std::vector<float>(3));
  int64_t first = 0;
  for (const int64_t n : shares) {
    BatchNorm layer("l", "", Shape{2, 3});
    EXPECT_TRUE(layer.Prepare(*device, n).ok());
    std::vector<float> part(x.begin() + first * 6, x.begin() + (first + n) * 6), y(part.size());
    std::vector<float> ones(3, 1), nan(3, NAN);
    std::vector<std::vector<float>> grads(4, std::vector<float>(3, 7.0f));
    // The statistics themselves are not for training to read.
    const std::vector<ConstTensor> weights = {
        {ones.data(), {3}}, {ones.data(), {3}}, {nan.data(), {3}}, {nan.data(), {3}}};
    std::vector<Tensor> grad_tensors;
    for (auto& grad : grads) grad_tensors.emplace_back(grad.data(), Shape{3});
    const Pass pass{*stream, true, {1, 2, 3}, weights, grad_tensors, first, whole};
    layer.Forward(pass, {part.data(), {n, 2, 3}}, {y.data(), {n, 2, 3}});
    layer.Backward(pass, {part.data(), {n, 2, 3}}, {y.data(), {n, 2, 3}}, true, [](int) {});
    for (size_t s = 0; s < 2; ++s) {
      for (size_t j = 0; j < 3; ++j) pushed[s][j] += grads[2 + s][j];
    }
    first += n;
  }
  return pushed;
}

TEST(BatchNormTest, PushesTheBatchsMomentsWeighedByItsShareOfTheMinibatch) {
  const std::vector<float> x = Uniform(8 * 6, 1);
  for (const std::vector<int64_t>& shares :
       {std::vector<int64_t>{8}, {4, 4}, {2, 3, 3}, {1, 1, 1, 1, 1, 1, 1, 1}}) {
    std::vector<double> mean(3), variance(3);
    int64_t first = 0;
    for (const int64_t n : shares) {
      const auto count = static_cast<double>(2 * n);
      for (int64_t j = 0; j < 3; ++j) {
        double own = 0, squares = 0;
        for (int64_t i = 2 * first; i < 2 * (first + n); ++i) own += x[i * 3 + j] / count;
        for (int64_t i = 2 * first; i < 2 * (first + n); ++i) {
          squares += std::pow(x[i * 3 + j] - own, 2) / count;
        }
        mean[j] += own * static_cast<double>(n) / 8;
        variance[j] += squares * static_cast<double>(n) / 8;
      }
      first += n;
    }
    const auto pushed = PushedStatistics(x, shares);
    for (size_t j = 0; j < 3; ++j) {
      EXPECT_NEAR(pushed[0][j], mean[j], muster::testing::Tolerance(16)) << shares.size();
      EXPECT_NEAR(pushed[1][j], variance[j], muster::testing::Tolerance(16)) << shares.size();
    }
  }
}

TEST(BatchNormTest, PredictsByTheStatisticsWhateverElseIsInTheBatch) {
  const auto device = MakeCpuDevice(1);
  const auto stream = device->MakeStream();
  BatchNorm layer("l", "", Shape{3});
  EXPECT_TRUE(layer.Prepare(*device, 2).ok());
  const std::vector<float> gain = {1, 2, 3}, offset = {0, 1, 0}, mean = {1, 0, -1},
                           variance = {4, 1, 0.25f};
  const std::vector<ConstTensor> weights = {
      {gain.data(), {3}}, {offset.data(), {3}}, {mean.data(), {3}}, {variance.data(), {3}}};
  const std::vector<float> x = {3, 1, 0, 100, 100, 100};
  std::vector<float> y(6);
  layer.Forward({*stream, false, {}, weights, {}}, {x.data(), {2, 3}}, {y.data(), {2, 3}});
  EXPECT_NEAR(y[0], 1, 1e-4);  // (3 - 1) / 2
  EXPECT_NEAR(y[1], 3, 1e-4);  // 2 · 1 + 1
  EXPECT_NEAR(y[2], 6, 1e-3);  // 3 · (0 + 1) / 0.5
}

}  // namespace
}  // namespace muster::worker
