// Each kind of layer as ONNX nodes, run by somebody else's runtime, against its formula in float64.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <cmath>
#include <limits>
#include <optional>

#include "kernels/philox.h"
#include "telemetry/file.h"
#include "tests/harness/onnx_runtime.h"
#include "tests/harness/temporary_folder.h"
#include "worker/onnx/layers.h"

namespace muster::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Values = std::vector<float>;
using Shape = std::vector<int64_t>;

int64_t NumElements(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

Values Random(int64_t n, uint64_t stream) {
  Values values(n);
  for (int64_t i = 0; i < n; ++i) {
    values[i] = 2 * UniformFloat(Philox(DeriveKey(11, stream), uint64_t(i))[0]) - 1;
  }
  return values;
}

// A model of any layers, with random weights; those of parameter number `positive` are 1 more.
class Weights {
 public:
  explicit Weights(const std::vector<std::pair<std::string, Shape>>& params,
                   std::optional<size_t> positive = {})
      : table_(*ps::ParamTable::Make(Specs(params))), arena_(table_.arena_size()) {
    for (size_t i = 0; i < params.size(); ++i) {
      const Values values = Random(table_.specs()[i].size(), 100 + i);
      for (size_t e = 0; e < values.size(); ++e) {
        arena_[table_.offset(i) + e] = values[e] + (i == positive ? 1.0f : 0.0f);
      }
    }
  }
  LayerWeights view() const { return {table_, arena_}; }
  const float* operator[](int i) const { return &arena_[table_.offset(i)]; }

 private:
  static std::vector<ps::ParamSpec> Specs(
      const std::vector<std::pair<std::string, Shape>>& params) {
    std::vector<ps::ParamSpec> specs;
    for (const auto& [name, shape] : params) {
      specs.emplace_back();
      specs.back().name = name;
      specs.back().shape = shape;
    }
    return specs;
  }

  ps::ParamTable table_;
  Values arena_;
};

// The layers as a model file: `x` in, the last layer out.
std::string Model(const std::vector<LayerDescription>& layers, const Weights& weights) {
  OnnxBuilder onnx("layers");
  const std::string x =
      onnx.AddInput("x", {OnnxBuilder::kBatch, NumElements(layers.front().input_shape)});
  const auto y = AddLayerNodes(layers, weights.view(), x, onnx);
  EXPECT_TRUE(y.ok()) << y.status();
  onnx.AddOutput(*y, {OnnxBuilder::kBatch, NumElements(layers.back().output_shape)});
  return onnx.Serialize();
}

class OnnxLayers : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = harness::OnnxRuntimeMissing(); !why.empty()) GTEST_SKIP() << why;
  }

  // Both samples of `inputs` through the layers, by the foreign runtime.
  std::vector<Values> Run(const std::vector<LayerDescription>& layers, const Weights& weights,
                          const std::vector<Values>& inputs) {
    const std::string path = directory_ + "/model.onnx";
    EXPECT_TRUE(WriteFileAtomically(path, Model(layers, weights)).ok());
    if (harness::OnnxCheckerMissing().empty()) {
      const absl::Status checked = harness::CheckOnnx(path);
      EXPECT_TRUE(checked.ok()) << checked;
    }
    auto rows = harness::RunOnnxRuntime(path, inputs, directory_);
    EXPECT_TRUE(rows.ok()) << rows.status();
    return rows.ok() ? *rows : std::vector<Values>(inputs.size());
  }

  const harness::TemporaryFolder temporary_;
  const std::string directory_ = temporary_.path();
};

// |x| ≤ 1 and |w| ≤ 1: `terms` products and sums, each rounded once.
double Tolerance(int64_t terms) {
  return std::numeric_limits<float>::epsilon() * 2 * static_cast<double>(terms);
}

void ExpectNear(const Values& got, const std::vector<double>& want, int64_t terms) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], Tolerance(terms)) << i;
}

TEST_F(OnnxLayers, Dense) {
  const Weights w({{"fc/weights", {7, 5}}, {"fc/bias", {5}}});
  const std::vector<LayerDescription> layers = {
      {"dense", "fc", {7}, {5}, {}, {"fc/weights", "fc/bias"}}};
  const std::vector<Values> x = {Random(7, 1), Random(7, 2)};
  const auto y = Run(layers, w, x);
  for (int row = 0; row < 2; ++row) {
    std::vector<double> want(w[1], w[1] + 5);
    for (int i = 0; i < 7; ++i) {
      for (int o = 0; o < 5; ++o) want[o] += double{x[row][i]} * w[0][i * 5 + o];
    }
    ExpectNear(y[row], want, 8);
  }
}

struct ConvCase {
  int64_t h, w, c, kh, kw, out, sh, sw;
  bool same;
};

// The convolution's output size and its padding before, by TensorFlow's rule.
std::pair<int64_t, int64_t> OutputAndPad(int64_t in, int64_t kernel, int64_t stride, bool same) {
  if (!same) return {(in - kernel) / stride + 1, 0};
  const int64_t out = (in + stride - 1) / stride;
  return {out, std::max<int64_t>(0, (out - 1) * stride + kernel - in) / 2};
}

std::vector<double> Conv(const ConvCase& k, const Values& x, const float* filter,
                         const float* bias) {
  const auto [oh, ph] = OutputAndPad(k.h, k.kh, k.sh, k.same);
  const auto [ow, pw] = OutputAndPad(k.w, k.kw, k.sw, k.same);
  std::vector<double> y;
  for (int64_t i = 0; i < oh; ++i) {
    for (int64_t j = 0; j < ow; ++j) {
      for (int64_t o = 0; o < k.out; ++o) {
        double sum = bias[o];
        for (int64_t a = 0; a < k.kh; ++a) {
          for (int64_t b = 0; b < k.kw; ++b) {
            const int64_t r = i * k.sh + a - ph, s = j * k.sw + b - pw;
            if (r < 0 || r >= k.h || s < 0 || s >= k.w) continue;
            for (int64_t c = 0; c < k.c; ++c) {
              sum += double{x[(r * k.w + s) * k.c + c]} *
                     filter[((a * k.kw + b) * k.c + c) * k.out + o];
            }
          }
        }
        y.push_back(sum);
      }
    }
  }
  return y;
}

TEST_F(OnnxLayers, Conv2d) {
  // Even kernels need an odd padding; a stride may leave a rest; a kernel may be the whole height.
  for (const ConvCase& k :
       {ConvCase{9, 6, 1, 4, 3, 2, 1, 1, true}, ConvCase{9, 6, 3, 4, 2, 2, 2, 2, true},
        ConvCase{8, 7, 2, 3, 4, 3, 3, 2, true}, ConvCase{9, 6, 1, 9, 4, 5, 1, 1, false},
        ConvCase{8, 7, 2, 3, 2, 3, 2, 3, false}}) {
    SCOPED_TRACE(testing::Message() << k.h << "x" << k.w << "x" << k.c << " same " << k.same);
    const Weights w({{"conv/weights", {k.kh, k.kw, k.c, k.out}}, {"conv/bias", {k.out}}});
    const int64_t oh = OutputAndPad(k.h, k.kh, k.sh, k.same).first;
    const int64_t ow = OutputAndPad(k.w, k.kw, k.sw, k.same).first;
    const std::vector<LayerDescription> layers = {
        {"conv2d",
         "conv",
         {k.h, k.w, k.c},
         {oh, ow, k.out},
         {{"stride_h", k.sh}, {"stride_w", k.sw}, {"same", k.same}},
         {"conv/weights", "conv/bias"}}};
    const std::vector<Values> x = {Random(k.h * k.w * k.c, 1), Random(k.h * k.w * k.c, 2)};
    const auto y = Run(layers, w, x);
    for (int row = 0; row < 2; ++row) {
      ExpectNear(y[row], Conv(k, x[row], w[0], w[1]), k.kh * k.kw * k.c + 1);
    }
  }
}

TEST_F(OnnxLayers, MaxPool) {
  // The border is no zero: a window at the border knows only what is there.
  const Weights w({{"unused", {1}}});
  const std::vector<LayerDescription> layers = {
      {"max_pool",
       "pool",
       {5, 3, 2},
       {3, 2, 2},
       {{"window_h", 2}, {"window_w", 2}, {"stride_h", 2}, {"stride_w", 2}, {"same", 1}},
       {}}};
  Values x = Random(30, 1);
  for (float& value : x) value -= 2;  // all negative
  const auto y = Run(layers, w, {x});
  std::vector<double> want;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 2; ++j) {
      for (int c = 0; c < 2; ++c) {
        double top = -1e9;
        for (int r = 2 * i; r < std::min(2 * i + 2, 5); ++r) {
          for (int s = 2 * j; s < std::min(2 * j + 2, 3); ++s) {
            top = std::max<double>(top, x[(r * 3 + s) * 2 + c]);
          }
        }
        want.push_back(top);
      }
    }
  }
  ExpectNear(y[0], want, 0);
}

TEST_F(OnnxLayers, Svdf) {
  constexpr int kFrames = 6, kFeatures = 4, kUnits = 5, kRank = 2, kFilters = kUnits * kRank;
  const Weights w({{"svdf/features", {kFeatures, kFilters}},
                   {"svdf/time", {kFrames, kFilters}},
                   {"svdf/bias", {kUnits}}});
  const std::vector<LayerDescription> layers = {{"svdf",
                                                 "svdf",
                                                 {kFrames, kFeatures},
                                                 {kUnits},
                                                 {{"rank", kRank}},
                                                 {"svdf/features", "svdf/time", "svdf/bias"}}};
  const std::vector<Values> x = {Random(kFrames * kFeatures, 1), Random(kFrames * kFeatures, 2)};
  const auto y = Run(layers, w, x);
  for (int row = 0; row < 2; ++row) {
    std::vector<double> want(w[2], w[2] + kUnits);
    for (int f = 0; f < kFilters; ++f) {
      for (int t = 0; t < kFrames; ++t) {
        double seen = 0;
        for (int i = 0; i < kFeatures; ++i) {
          seen += double{x[row][t * kFeatures + i]} * w[0][i * kFilters + f];
        }
        want[f / kRank] += seen * w[1][t * kFilters + f];
      }
    }
    ExpectNear(y[row], want, kFrames * kFeatures * kRank + 1);
  }
}

TEST_F(OnnxLayers, ConvolutionWithoutBias) {
  const ConvCase k{9, 6, 3, 4, 2, 2, 2, 2, true};
  const Weights w({{"conv/weights", {k.kh, k.kw, k.c, k.out}}});
  const std::vector<LayerDescription> layers = {
      {"conv2d",
       "conv",
       {k.h, k.w, k.c},
       {5, 3, k.out},
       {{"stride_h", k.sh}, {"stride_w", k.sw}, {"same", 1}},
       {"conv/weights"}}};
  const Values x = Random(k.h * k.w * k.c, 1), none(2);
  ExpectNear(Run(layers, w, {x})[0], Conv(k, x, w[0], none.data()), k.kh * k.kw * k.c + 1);
}

TEST_F(OnnxLayers, BatchNorm) {
  // Of flat features, and of an image's channels, which the graph has first.
  for (const Shape& shape : {Shape{5}, Shape{3, 2, 5}}) {
    const Weights w({{"gain", {5}}, {"offset", {5}}, {"mean", {5}}, {"variance", {5}}},
                    /*positive=*/3);
    LayerDescription layer{"batch_norm", "norm", shape, shape, {}, {}, 0.25f};
    layer.params = {"gain", "offset", "mean", "variance"};
    const std::vector<Values> x = {Random(NumElements(shape), 1), Random(NumElements(shape), 2)};
    const auto y = Run({layer}, w, x);
    for (size_t row = 0; row < 2; ++row) {
      std::vector<double> want;
      for (size_t i = 0; i < x[row].size(); ++i) {
        const size_t c = i % 5;
        want.push_back(w[0][c] * (double{x[row][i]} - w[2][c]) / std::sqrt(w[3][c] + 0.25) +
                       w[1][c]);
      }
      ExpectNear(y[row], want, 8);
    }
  }
}

TEST_F(OnnxLayers, LayerNorm) {
  // Behind an image: gain and offset are in our order, channels last.
  const Weights w({{"gain", {30}}, {"offset", {30}}});
  const Shape shape = {3, 2, 5};
  const LayerDescription pool{
      "max_pool",
      "pool",
      shape,
      shape,
      {{"window_h", 1}, {"window_w", 1}, {"stride_h", 1}, {"stride_w", 1}, {"same", 1}},
      {}};
  const LayerDescription norm{"layer_norm", "norm", shape, shape, {}, {"gain", "offset"}, 0.25f};
  const Values x = Random(30, 1);
  double mean = 0, variance = 0;
  for (const float v : x) mean += v / 30.0;
  for (const float v : x) variance += (v - mean) * (v - mean) / 30;
  std::vector<double> want;
  for (int i = 0; i < 30; ++i) {
    want.push_back(w[0][i] * (x[i] - mean) / std::sqrt(variance + 0.25) + w[1][i]);
  }
  ExpectNear(Run({norm}, w, {x})[0], want, 30);
  ExpectNear(Run({pool, norm}, w, {x})[0], want, 30);
}

TEST_F(OnnxLayers, ElementsKeepTheirOrderFromLayerToLayer) {
  // conv → relu → dropout → pool → conv → dense, against the formulas one after the other; with a
  // reshape where an image meets flat elements, and without.
  const ConvCase first{6, 5, 1, 3, 2, 3, 1, 1, true};
  const ConvCase second{3, 3, 3, 2, 2, 4, 1, 1, true};
  const Weights w({{"a/weights", {3, 2, 1, 3}},
                   {"a/bias", {3}},
                   {"b/weights", {2, 2, 3, 4}},
                   {"b/bias", {4}},
                   {"fc/weights", {36, 2}},
                   {"fc/bias", {2}}});
  const std::map<std::string, int64_t> plain = {{"stride_h", 1}, {"stride_w", 1}, {"same", 1}};
  const std::vector<LayerDescription> layers = {
      {"reshape", "image", {30}, {6, 5, 1}, {}, {}},
      {"conv2d", "a", {6, 5, 1}, {6, 5, 3}, plain, {"a/weights", "a/bias"}},
      {"relu", "relu", {6, 5, 3}, {6, 5, 3}, {}, {}},
      {"dropout", "dropout", {6, 5, 3}, {6, 5, 3}, {}, {}},
      {"max_pool",
       "pool",
       {6, 5, 3},
       {3, 3, 3},
       {{"window_h", 2}, {"window_w", 2}, {"stride_h", 2}, {"stride_w", 2}, {"same", 1}},
       {}},
      {"conv2d", "b", {3, 3, 3}, {3, 3, 4}, plain, {"b/weights", "b/bias"}},
      {"reshape", "flat", {3, 3, 4}, {36}, {}, {}},
      {"dense", "fc", {36}, {2}, {}, {"fc/weights", "fc/bias"}}};
  const Values x = Random(30, 1);
  std::vector<double> a = Conv(first, x, w[0], w[1]);
  Values pooled;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) {
      for (int c = 0; c < 3; ++c) {
        double top = 0;  // relu
        for (int r = 2 * i; r < 2 * i + 2; ++r) {
          for (int s = 2 * j; s < std::min(2 * j + 2, 5); ++s) {
            top = std::max(top, a[(r * 5 + s) * 3 + c]);
          }
        }
        pooled.push_back(static_cast<float>(top));
      }
    }
  }
  const std::vector<double> b = Conv(second, pooled, w[2], w[3]);
  std::vector<double> want(w[5], w[5] + 2);
  for (int i = 0; i < 36; ++i) {
    for (int o = 0; o < 2; ++o) want[o] += b[i] * w[4][i * 2 + o];
  }
  ExpectNear(Run(layers, w, {x})[0], want, 7 * 13 * 37);
  std::vector<LayerDescription> bare;
  for (const LayerDescription& layer : layers) {
    if (layer.kind != "reshape") bare.push_back(layer);
  }
  ExpectNear(Run(bare, w, {x})[0], want, 7 * 13 * 37);
}

TEST(OnnxLayerNodes, AConvolutionPadsAsTensorFlowDoes) {
  const Weights w({{"conv/weights", {20, 8, 1, 4}}, {"conv/bias", {4}}});
  const std::string bytes = Model({{"conv2d",
                                    "conv",
                                    {98, 40, 1},
                                    {98, 40, 4},
                                    {{"stride_h", 1}, {"stride_w", 1}, {"same", 1}},
                                    {"conv/weights", "conv/bias"}}},
                                  w);
  onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(bytes));
  for (const auto& node : model.graph().node()) {
    if (node.op_type() != "Conv") continue;
    EXPECT_THAT(node.input(), ElementsAre("conv:image", "conv/weights", "conv/bias"));
    ASSERT_EQ(node.attribute_size(), 3);
    EXPECT_EQ(node.attribute(0).name(), "kernel_shape");
    EXPECT_THAT(node.attribute(0).ints(), ElementsAre(20, 8));
    EXPECT_EQ(node.attribute(2).name(), "pads");
    EXPECT_THAT(node.attribute(2).ints(), ElementsAre(9, 3, 10, 4));
    return;
  }
  FAIL() << "no Conv";
}

TEST(OnnxLayerNodes, AnUnknownKindIsUnimplementedAndNamed) {
  const Weights w({{"unused", {1}}});
  const std::vector<LayerDescription> layers = {{"capsule", "caps1", {3}, {3}, {}, {}}};
  OnnxBuilder onnx("unknown");
  const std::string x = onnx.AddInput("x", {OnnxBuilder::kBatch, 3});
  const auto y = AddLayerNodes(layers, w.view(), x, onnx);
  EXPECT_EQ(y.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(y.status().message()), AllOf(HasSubstr("caps1"), HasSubstr("capsule")));
}

TEST(OnnxLayerNodes, AModelThatDescribesNothingIsUnimplemented) {
  const Weights w({{"unused", {1}}});
  OnnxBuilder onnx("empty");
  const std::string x = onnx.AddInput("x", {OnnxBuilder::kBatch, 3});
  EXPECT_EQ(AddLayerNodes({}, w.view(), x, onnx).status().code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace muster::worker
