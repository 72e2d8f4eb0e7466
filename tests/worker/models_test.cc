// The speech models: shapes as TensorFlow's models.py has them, gradients by finite differences,
// and the promises of model.h.
#include "worker/models/models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "kernels/philox.h"
#include "tests/harness/host_gpu.h"
#include "tests/kernels/reference.h"

namespace muster::worker {
namespace {

using ::muster::testing::Uniform;
using ::testing::HasSubstr;

std::unique_ptr<Model> MakeModel(const std::string& name, const ImageModelSettings& settings,
                                 Device& device) {
  auto model = MakeImageModel(name, settings, device);
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

// A model, its arenas and a batch.
class Trial {
 public:
  Trial(const std::string& name, const ImageModelSettings& settings, int threads,
        int64_t batch_size, int64_t max_batch)
      : Trial(name, settings, MakeCpuDevice(threads), batch_size, max_batch) {}
  Trial(const std::string& name, const ImageModelSettings& settings, std::unique_ptr<Device> device,
        int64_t batch_size, int64_t max_batch)
      : device_(std::move(device)), model_(MakeModel(name, settings, *device_)) {
    auto table = ps::ParamTable::Make(model_->params());
    EXPECT_TRUE(table.ok());
    table_ = std::make_unique<ps::ParamTable>(*std::move(table));
    EXPECT_TRUE(model_->Prepare(*table_, max_batch).ok());
    // Gradients that reach all layers: uniform weights of variance 1 / fan-in instead of the
    // models' own, which are tiny; statistics beside their first values, a variance above 0.
    weights_.resize(table_->arena_size());
    grads_.resize(table_->arena_size());
    for (size_t p = 0; p < model_->params().size(); ++p) {
      const ps::ParamSpec& spec = model_->params()[p];
      const auto values = Uniform(spec.size(), p);
      const auto fan_in = static_cast<float>(spec.size() / spec.shape.back());
      const bool statistic = spec.kind == ps::ParamSpec::Kind::kStatistic;
      for (int64_t i = 0; i < spec.size(); ++i) {
        weights_[table_->offset(p) + i] =
            statistic ? spec.init.value + values[i] / 2 : values[i] * std::sqrt(3 / fan_in);
      }
    }
    inputs_ = Uniform(batch_size * model_->input_size(), 99);
    for (int64_t i = 0; i < batch_size; ++i) {
      labels_.push_back(static_cast<int32_t>(i % model_->num_classes()));
    }
  }

  Batch batch() const { return {inputs_, labels_, static_cast<int64_t>(labels_.size())}; }
  float Loss(const ItemKey& key = {1, 2, 3}) {
    model_->Forward(weights_, batch(), key);
    return model_->Loss();
  }
  std::vector<ps::ParamId> Backward() {
    std::vector<ps::ParamId> order;
    model_->Backward(weights_, grads_, [&](ps::ParamId param) { order.push_back(param); });
    return order;
  }
  std::vector<float> Predict() {
    std::vector<float> logits(labels_.size() * model_->num_classes());
    model_->Predict(weights_, batch(), logits);
    return logits;
  }

  std::span<float> weights(ps::ParamId p) { return Part(weights_, p); }
  std::span<float> grads(ps::ParamId p) { return Part(grads_, p); }
  const std::vector<float>& all_grads() const { return grads_; }
  Model& model() { return *model_; }

 private:
  std::span<float> Part(std::vector<float>& arena, ps::ParamId p) {
    return std::span(arena).subspan(table_->offset(p), table_->specs()[p].size());
  }

  const std::unique_ptr<Device> device_;
  const std::unique_ptr<Model> model_;
  std::unique_ptr<ps::ParamTable> table_;
  std::vector<float> weights_, grads_, inputs_;
  std::vector<int32_t> labels_;
};

constexpr ImageModelSettings kSmall{.frames = 14, .bins = 10, .classes = 5};

class ModelTest : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, ModelTest, ::testing::ValuesIn(ImageModelNames()),
                         [](const auto& info) { return info.param; });

// Along its own gradient g the loss must rise by |g|; a wrong gradient, longer or in another
// direction, does not show its own length. The step keeps curvature and kinks below 2 %; rounding
// of the loss (2^-22) over two steps is the absolute part.
TEST_P(ModelTest, GradientsAreDifferenceQuotientsAlongThemselves) {
  Trial trial(GetParam(), kSmall, 2, 4, 4);
  trial.Loss();
  trial.Backward();
  constexpr double kStep = 0.01;
  for (size_t p = 0; p < trial.model().params().size(); ++p) {
    if (trial.model().params()[p].kind == ps::ParamSpec::Kind::kStatistic) continue;
    const auto w = trial.weights(p), g = trial.grads(p);
    const double length = std::sqrt(std::inner_product(g.begin(), g.end(), g.begin(), 0.0));
    ASSERT_GT(length, 1e-3) << trial.model().params()[p].name;
    const std::vector<float> before(w.begin(), w.end());
    const auto loss_at = [&](double step) {
      for (size_t i = 0; i < w.size(); ++i) {
        w[i] = static_cast<float>(before[i] + step * g[i] / length);
      }
      return double{trial.Loss()};
    };
    const double quotient = (loss_at(kStep) - loss_at(-kStep)) / (2 * kStep);
    std::copy(before.begin(), before.end(), w.begin());
    EXPECT_NEAR(quotient, length, 0.02 * length + 0x1p-21 / kStep)
        << trial.model().params()[p].name;
  }
}

TEST_P(ModelTest, ReportsEachParameterOnceFromTheBackOn) {
  Trial trial(GetParam(), kSmall, 1, 2, 2);
  trial.Loss();
  std::vector<ps::ParamId> order = trial.Backward();
  EXPECT_EQ(order.front(), static_cast<ps::ParamId>(order.size()) - 1);
  std::sort(order.begin(), order.end());
  std::vector<ps::ParamId> all(trial.model().params().size());
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(order, all);
}

// What was read last must not be read again: weights are spoilt as soon as they are reported.
TEST_P(ModelTest, NeverReadsAParameterAfterItWasReported) {
  Trial trial(GetParam(), kSmall, 1, 2, 2);
  trial.Loss();
  trial.Backward();
  const std::vector<float> want = trial.all_grads();
  trial.Loss();
  std::vector<float> grads(want.size());
  // Backward takes the arena as read-only; the trainer's next parameters arrive there all the same.
  const std::span<const float> arena(trial.weights(0).data(), want.size());
  trial.model().Backward(arena, grads, [&](ps::ParamId param) {
    for (float& w : trial.weights(param)) w = 1e30f;
  });
  EXPECT_EQ(grads, want);
}

TEST_P(ModelTest, TheSameItemGivesTheSameBits) {
  for (const int threads : {1, 2}) {
    Trial a(GetParam(), kSmall, threads, 6, 6), b(GetParam(), kSmall, threads, 6, 8);
    EXPECT_EQ(a.Loss(), b.Loss());
    a.Backward();
    b.Backward();
    EXPECT_EQ(a.all_grads(), b.all_grads()) << threads << " threads";
    a.Loss();
    a.Backward();
    EXPECT_EQ(a.all_grads(), b.all_grads()) << "the second time";
  }
}

TEST_P(ModelTest, DropoutIsAFunctionOfSeedStepAndReplica) {
  Trial trial(GetParam(), kSmall, 1, 4, 4);
  const float loss = trial.Loss({1, 2, 3});
  EXPECT_EQ(loss, trial.Loss({1, 2, 3}));
  const bool has_dropout = GetParam() != "single_fc";
  EXPECT_EQ(loss != trial.Loss({2, 2, 3}), has_dropout);
  EXPECT_EQ(loss != trial.Loss({1, 3, 3}), has_dropout);
  EXPECT_EQ(loss != trial.Loss({1, 2, 4}), has_dropout);
}

TEST_P(ModelTest, PredictsInPiecesWhatItPredictsAtOnce) {
  Trial whole(GetParam(), kSmall, 1, 5, 5), pieces(GetParam(), kSmall, 1, 5, 2);
  const auto a = whole.Predict(), b = pieces.Predict();
  ASSERT_EQ(a.size(), b.size());
  // Logits of this size are sums of a few thousand products of magnitude <= 1 / sqrt(terms).
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-4) << i;
}

// Where a convolution leaves its bias to the activation behind it, too.
TEST_P(ModelTest, LearnsWithAGpusKernelsWhatItLearnsOnTheCpu) {
  Trial cpu(GetParam(), kSmall, 1, 4, 4),
      gpu(GetParam(), kSmall, testing::MakeHostGpu({.graphs = false}), 4, 4);
  EXPECT_NEAR(gpu.Loss(), cpu.Loss(), 1e-5);
  cpu.Backward(), gpu.Backward();
  for (size_t i = 0; i < cpu.all_grads().size(); ++i) {
    ASSERT_NEAR(gpu.all_grads()[i], cpu.all_grads()[i], 1e-4) << i;
  }
  const auto want = cpu.Predict(), got = gpu.Predict();
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-4) << i;
}

TEST_P(ModelTest, ADeviceWithoutRoomForItSaysSo) {
  // Bytes of an allocation: none of the buffers fits, then more and more of them.
  for (const size_t memory : {8, 1'000, 16'000, 100'000}) {
    const auto device = testing::MakeHostGpu({.memory = memory});
    const auto model = MakeModel(GetParam(), {}, *device);
    const auto table = ps::ParamTable::Make(model->params());
    ASSERT_TRUE(table.ok());
    const absl::Status prepared = model->Prepare(*table, 1);
    if (memory >= 16'000 && prepared.ok()) continue;
    EXPECT_TRUE(absl::IsResourceExhausted(prepared)) << memory << ": " << prepared;
  }
}

TEST_P(ModelTest, DescribesItsLayersAsAChainFromImageToLogits) {
  const auto device = MakeCpuDevice(1);
  const auto model = MakeModel(GetParam(), kSmall, *device);
  const auto product = [](const std::vector<int64_t>& shape) {
    return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  };
  int64_t size = model->input_size();
  std::map<std::string, int> seen;
  for (const LayerDescription& layer : model->layers()) {
    EXPECT_EQ(product(layer.input_shape), size) << layer.name;
    size = product(layer.output_shape);
    EXPECT_EQ(++seen[layer.name], 1) << layer.name;
    for (const std::string& param : layer.params) EXPECT_EQ(++seen[param], 1) << param;
  }
  EXPECT_EQ(size, model->num_classes());
  for (const ps::ParamSpec& spec : model->params()) EXPECT_EQ(seen[spec.name], 1) << spec.name;
}

std::map<std::string, std::vector<int64_t>> ShapesOf(const std::string& name) {
  const auto device = MakeCpuDevice(1);
  std::map<std::string, std::vector<int64_t>> shapes;
  const auto model = MakeModel(name, {}, *device);
  for (const auto& spec : model->params()) shapes[spec.name] = spec.shape;
  return shapes;
}

using Shapes = std::map<std::string, std::vector<int64_t>>;

TEST(ModelShapesTest, AreThoseOfTensorFlow) {
  EXPECT_EQ(ShapesOf("single_fc"), (Shapes{{"weights", {3920, 12}}, {"bias", {12}}}));
  EXPECT_EQ(ShapesOf("conv"), (Shapes{{"first_weights", {20, 8, 1, 64}},
                                      {"first_bias", {64}},
                                      {"second_weights", {10, 4, 64, 64}},
                                      {"second_bias", {64}},
                                      {"final_fc_weights", {62720, 12}},
                                      {"final_fc_bias", {12}}}));
  EXPECT_EQ(ShapesOf("low_latency_conv"), (Shapes{{"first_weights", {98, 8, 1, 186}},
                                                  {"first_bias", {186}},
                                                  {"first_fc_weights", {6138, 128}},
                                                  {"first_fc_bias", {128}},
                                                  {"second_fc_weights", {128, 128}},
                                                  {"second_fc_bias", {128}},
                                                  {"final_fc_weights", {128, 12}},
                                                  {"final_fc_bias", {12}}}));
  // weights_time is transposed: [frames, filters].
  EXPECT_EQ(ShapesOf("low_latency_svdf"), (Shapes{{"weights_frequency", {40, 2560}},
                                                  {"weights_time", {98, 2560}},
                                                  {"bias", {1280}},
                                                  {"first_fc_weights", {1280, 256}},
                                                  {"first_fc_bias", {256}},
                                                  {"second_fc_weights", {256, 256}},
                                                  {"second_fc_bias", {256}},
                                                  {"final_fc_weights", {256, 12}},
                                                  {"final_fc_bias", {12}}}));
  EXPECT_EQ(ShapesOf("tiny_conv"), (Shapes{{"first_weights", {10, 8, 1, 8}},
                                           {"first_bias", {8}},
                                           {"final_fc_weights", {7840, 12}},
                                           {"final_fc_bias", {12}}}));
}

TEST(ModelShapesTest, ConvNormIsConvWithNormsForBiases) {
  EXPECT_EQ(ShapesOf("conv_norm"), (Shapes{{"first_weights", {20, 8, 1, 64}},
                                           {"first_norm_gain", {64}},
                                           {"first_norm_offset", {64}},
                                           {"first_norm_mean", {64}},
                                           {"first_norm_variance", {64}},
                                           {"second_weights", {10, 4, 64, 64}},
                                           {"second_norm_gain", {64}},
                                           {"second_norm_offset", {64}},
                                           {"second_norm_mean", {64}},
                                           {"second_norm_variance", {64}},
                                           {"final_norm_gain", {16000}},
                                           {"final_norm_offset", {16000}},
                                           {"final_fc_weights", {16000, 12}},
                                           {"final_fc_bias", {12}}}));
}

TEST(ModelShapesTest, ConvTakesThreePassesOverItsProductsButTwoOverTheFirstLayers) {
  const auto device = MakeCpuDevice(1);
  const double first = 98.0 * 40 * 64 * 160, second = 49.0 * 20 * 64 * 2560, fc = 62720.0 * 12;
  EXPECT_DOUBLE_EQ(MakeModel("conv", {}, *device)->flops_per_sample(),
                   2 * (2 * first + 3 * second + 3 * fc));
}

TEST(ModelErrorsTest, NameWhatIsWrongAndWhatIsRight) {
  const auto device = MakeCpuDevice(1);
  const auto unknown = MakeImageModel("convv", {}, *device).status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.message()), HasSubstr("single_fc, conv, low_latency_conv"));
  const auto small = MakeImageModel("low_latency_conv", {.frames = 98, .bins = 7}, *device);
  EXPECT_THAT(std::string(small.status().message()), HasSubstr("at least 1 frame by 8"));
}

}  // namespace
}  // namespace muster::worker
