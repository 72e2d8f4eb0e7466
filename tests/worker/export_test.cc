// What an export leaves: a model that others can run, its labels, and what its numbers mean.
#include "worker/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "kernels/device.h"
#include "kernels/philox.h"
#include "telemetry/file.h"
#include "tests/harness/onnx_runtime.h"
#include "tests/harness/temporary_folder.h"
#include "worker/onnx/builder.h"

namespace muster::worker {
namespace {

using ::testing::HasSubstr;
using Values = std::vector<float>;

constexpr int64_t kInputs = 4, kHidden = 6, kClasses = 3;

// inputs → dense → tanh → dense.
class SmallModel : public Model {
 public:
  explicit SmallModel(bool described) : described_(described) {
    const auto add = [&](const char* name, std::vector<int64_t> shape) {
      params_.emplace_back();
      params_.back().name = name;
      params_.back().shape = std::move(shape);
    };
    add("hidden/weights", {kInputs, kHidden});
    add("hidden/bias", {kHidden});
    add("logits/weights", {kHidden, kClasses});
    add("logits/bias", {kClasses});
  }
  const std::vector<ps::ParamSpec>& params() const override { return params_; }
  absl::Status Prepare(const ps::ParamTable& table, int64_t) override {
    for (int i = 0; i < 4; ++i) at_[i] = table.offset(i);
    return absl::OkStatus();
  }
  void Forward(std::span<const float>, const Batch&, const ItemKey&) override {}
  float Loss() override { return 0; }
  void Backward(std::span<const float>, std::span<float>, const OnGrad&) override {}
  void Predict(std::span<const float> w, const Batch& batch, std::span<float> logits) override {
    for (int64_t row = 0; row < batch.size; ++row) {
      float hidden[kHidden];
      for (int64_t h = 0; h < kHidden; ++h) {
        float sum = w[at_[1] + h];
        for (int64_t i = 0; i < kInputs; ++i) {
          sum += batch.inputs[row * kInputs + i] * w[at_[0] + i * kHidden + h];
        }
        hidden[h] = std::tanh(sum);
      }
      for (int64_t c = 0; c < kClasses; ++c) {
        float sum = w[at_[3] + c];
        for (int64_t h = 0; h < kHidden; ++h) sum += hidden[h] * w[at_[2] + h * kClasses + c];
        logits[row * kClasses + c] = sum;
      }
    }
  }
  int64_t num_classes() const override { return kClasses; }
  int64_t input_size() const override { return kInputs; }
  std::vector<LayerDescription> layers() const override {
    if (!described_) return {};
    return {{"dense", "hidden", {kInputs}, {kHidden}, {}, {"hidden/weights", "hidden/bias"}},
            {"tanh", "tanh", {kHidden}, {kHidden}, {}, {}},
            {"dense", "logits", {kHidden}, {kClasses}, {}, {"logits/weights", "logits/bias"}}};
  }
  double flops_per_sample() const override { return 0; }

 private:
  const bool described_;
  std::vector<ps::ParamSpec> params_;
  int64_t at_[4] = {};
};

class SmallModule : public Module {
 public:
  explicit SmallModule(bool described = true) : described_(described) {}
  std::unique_ptr<Model> MakeModel(Device&) const override {
    return std::make_unique<SmallModel>(described_);
  }
  absl::StatusOr<std::shared_ptr<const Dataset>> MakeDataset(Split, uint64_t, Log&) const override {
    return absl::UnimplementedError("no data");
  }
  std::vector<std::string> labels() const override { return {"left", "right", "straight on"}; }

 private:
  const bool described_;
};

// Its front end takes the differences of five readings.
class DifferencesModule : public SmallModule {
 public:
  absl::StatusOr<std::optional<FrontEnd>> AddFrontEnd(OnnxBuilder& onnx) const override {
    FrontEnd front_end;
    front_end.input = "readings";
    front_end.input_shape = {OnnxBuilder::kBatch, kInputs + 1};
    front_end.input_means = "five readings";
    front_end.numbers = {{"readingsPerSecond", 5}};
    const std::string readings = onnx.AddInput("readings", front_end.input_shape);
    Values filter((kInputs + 1) * kInputs, 0.0F);
    for (int64_t i = 0; i < kInputs; ++i) {
      filter[i * kInputs + i] = -1;
      filter[(i + 1) * kInputs + i] = 1;
    }
    const std::string matrix = onnx.AddConstant("front_end/filter", {kInputs + 1, kInputs}, filter);
    front_end.value = onnx.AddNode("MatMul", "front_end/differences", {readings, matrix});
    return front_end;
  }
};

class ExportTest : public ::testing::Test {
 protected:
  ExportTest() {
    for (size_t i = 0; i < weights_.size(); ++i) {
      weights_[i] = 2 * UniformFloat(Philox(DeriveKey(3, 1), i)[0]) - 1;
    }
  }

  // What our own inference makes of `inputs` [kInputs].
  std::vector<double> OwnProbabilities(const Values& inputs) {
    SmallModel model(true);
    EXPECT_TRUE(model.Prepare(table_, 1).ok());
    Values logits(kClasses);
    model.Predict(weights_, {.inputs = inputs, .labels = {}, .size = 1}, logits);
    std::vector<double> p(logits.begin(), logits.end());
    for (double& x : p) x = std::exp(x);
    const double sum = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= sum;
    return p;
  }
  std::string Text(const std::string& name) { return *ReadFile(folder_ + "/" + name); }

  const harness::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path() + "/a/b";
  const ps::ParamTable table_ = *ps::ParamTable::Make(SmallModel(true).params());
  Values weights_ = Values(table_.arena_size());
};

TEST_F(ExportTest, WritesTheModelItsLabelsAndWhatItsNumbersMean) {
  const auto path =
      ExportModel(SmallModule(), table_, weights_, folder_, {"small", {{"width", "6"}}, 400});
  ASSERT_TRUE(path.ok()) << path.status();
  EXPECT_EQ(*path, folder_ + "/model.onnx");
  EXPECT_EQ(Text("labels.txt"), "left\nright\nstraight on\n");
  const auto json = nlohmann::json::parse(Text("module.json"));
  EXPECT_EQ(json, nlohmann::json::parse(R"({
    "schemaVersion": 1, "module": "small", "flags": {"width": "6"}, "step": 400,
    "model": "model.onnx",
    "input": {"name": "inputs", "type": "float32", "shape": ["batch", 4],
              "means": "the model's inputs, one sample per row"},
    "output": {"name": "probabilities", "type": "float32", "shape": ["batch", 3],
               "means": "the probability of each label, in the order of labels.txt"},
    "labels": ["left", "right", "straight on"]})"));
}

TEST_F(ExportTest, TheGraphGoesFromTheInputToProbabilities) {
  const auto path = ExportModel(SmallModule(), table_, weights_, folder_);
  ASSERT_TRUE(path.ok()) << path.status();
  onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromString(Text("model.onnx")));
  const auto& graph = model.graph();
  ASSERT_EQ(graph.input_size(), 1);
  EXPECT_EQ(graph.input(0).name(), "inputs");
  ASSERT_EQ(graph.output_size(), 1);
  EXPECT_EQ(graph.output(0).name(), "probabilities");
  EXPECT_EQ(graph.output(0).type().tensor_type().shape().dim(1).dim_value(), kClasses);
  std::vector<std::string> ops;
  for (const auto& node : graph.node()) ops.push_back(node.op_type());
  EXPECT_THAT(ops, testing::ElementsAre("Gemm", "Tanh", "Gemm", "Softmax"));
}

TEST_F(ExportTest, AnotherRuntimeGivesTheSameProbabilities) {
  if (const std::string why = harness::OnnxRuntimeMissing(); !why.empty()) GTEST_SKIP() << why;
  const auto path = ExportModel(SmallModule(), table_, weights_, folder_);
  ASSERT_TRUE(path.ok()) << path.status();
  const std::vector<Values> inputs = {{0, 0, 0, 0}, {1, -1, 0.5, 2}};
  const auto rows = harness::RunOnnxRuntime(*path, inputs, folder_);
  ASSERT_TRUE(rows.ok()) << rows.status();
  for (size_t row = 0; row < inputs.size(); ++row) {
    const std::vector<double> own = OwnProbabilities(inputs[row]);
    for (int c = 0; c < kClasses; ++c) EXPECT_NEAR((*rows)[row][c], own[c], 1e-6);
  }
}

TEST_F(ExportTest, AFrontEndStandsBeforeTheLayers) {
  const auto path = ExportModel(DifferencesModule(), table_, weights_, folder_);
  ASSERT_TRUE(path.ok()) << path.status();
  const auto json = nlohmann::json::parse(Text("module.json"));
  EXPECT_EQ(json["input"], nlohmann::json::parse(R"({
    "name": "readings", "type": "float32", "shape": ["batch", 5], "means": "five readings",
    "readingsPerSecond": 5})"));
  if (const std::string why = harness::OnnxRuntimeMissing(); !why.empty()) GTEST_SKIP() << why;
  const auto rows = harness::RunOnnxRuntime(*path, {{1, 2, 4, 8, 4}}, folder_);
  ASSERT_TRUE(rows.ok()) << rows.status();
  const std::vector<double> own = OwnProbabilities({1, 2, 4, -4});
  for (int c = 0; c < kClasses; ++c) EXPECT_NEAR((*rows)[0][c], own[c], 1e-6);
}

TEST_F(ExportTest, TheSameWeightsGiveTheSameBytes) {
  ASSERT_TRUE(ExportModel(SmallModule(), table_, weights_, folder_).ok());
  const std::string first = Text("model.onnx");
  ASSERT_TRUE(ExportModel(SmallModule(), table_, weights_, folder_).ok());
  EXPECT_EQ(Text("model.onnx"), first);
}

TEST_F(ExportTest, AModelWithoutDescribedLayersIsUnimplementedAndLeavesNothing) {
  const auto path = ExportModel(SmallModule(/*described=*/false), table_, weights_, folder_);
  EXPECT_EQ(path.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_FALSE(std::filesystem::exists(folder_));
}

TEST_F(ExportTest, AFolderThatCannotBeMadeIsNamed) {
  const std::string file = temporary_.path() + "/file";
  std::ofstream(file) << "in the way";
  const auto path = ExportModel(SmallModule(), table_, weights_, file + "/export");
  EXPECT_FALSE(path.ok());
  EXPECT_THAT(std::string(path.status().message()), HasSubstr(file + "/export"));
}

}  // namespace
}  // namespace muster::worker
