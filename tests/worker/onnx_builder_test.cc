// OnnxBuilder: what goes in is what a reader of the file finds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx/onnx_pb.h>

#include <cstring>

#include "worker/onnx/builder.h"

namespace muster::worker {
namespace {

using ::testing::ElementsAre;

onnx::ModelProto Parse(const OnnxBuilder& builder) {
  onnx::ModelProto model;
  EXPECT_TRUE(model.ParseFromString(builder.Serialize()));
  return model;
}

template <typename T>
std::vector<T> RawData(const onnx::TensorProto& tensor) {
  std::vector<T> data(tensor.raw_data().size() / sizeof(T));
  std::memcpy(data.data(), tensor.raw_data().data(), tensor.raw_data().size());
  return data;
}

// y = x · w, seen as [batch, 2, 1].
std::unique_ptr<OnnxBuilder> SmallModel() {
  auto onnx = std::make_unique<OnnxBuilder>("small");
  const std::string x = onnx->AddInput("x", {OnnxBuilder::kBatch, 3});
  const std::string w = onnx->AddConstant("w", {3, 2}, std::vector<float>{1, 2, 3, 4, 5, 0.1F});
  const std::string product = onnx->AddNode("MatMul", "product", {x, w});
  const std::string y = onnx->AddReshape("y", product, {OnnxBuilder::kBatch, 2, 1});
  onnx->AddOutput(y, {OnnxBuilder::kBatch, 2, 1});
  return onnx;
}

TEST(OnnxBuilder, StatesTheVersionsThatReadersCheck) {
  const onnx::ModelProto model = Parse(*SmallModel());
  EXPECT_EQ(model.ir_version(), 7);
  ASSERT_EQ(model.opset_import_size(), 1);
  EXPECT_EQ(model.opset_import(0).domain(), "");
  EXPECT_EQ(model.opset_import(0).version(), 13);
  EXPECT_EQ(model.producer_name(), "muster");
  EXPECT_EQ(model.graph().name(), "small");
}

TEST(OnnxBuilder, InputsAndOutputsHaveShapesWithAFreeBatch) {
  const onnx::ModelProto model = Parse(*SmallModel());
  ASSERT_EQ(model.graph().input_size(), 1);
  const auto& x = model.graph().input(0);
  EXPECT_EQ(x.name(), "x");
  EXPECT_EQ(x.type().tensor_type().elem_type(), onnx::TensorProto::FLOAT);
  ASSERT_EQ(x.type().tensor_type().shape().dim_size(), 2);
  EXPECT_EQ(x.type().tensor_type().shape().dim(0).dim_param(), "batch");
  EXPECT_EQ(x.type().tensor_type().shape().dim(1).dim_value(), 3);
  ASSERT_EQ(model.graph().output_size(), 1);
  EXPECT_EQ(model.graph().output(0).name(), "y");
}

TEST(OnnxBuilder, NodesComeInOrderWithTheirInputs) {
  const onnx::ModelProto model = Parse(*SmallModel());
  ASSERT_EQ(model.graph().node_size(), 2);
  const auto& product = model.graph().node(0);
  EXPECT_EQ(product.op_type(), "MatMul");
  EXPECT_THAT(product.input(), ElementsAre("x", "w"));
  EXPECT_THAT(product.output(), ElementsAre("product"));
  const auto& reshape = model.graph().node(1);
  EXPECT_EQ(reshape.op_type(), "Reshape");
  EXPECT_THAT(reshape.input(), ElementsAre("product", "y:shape"));
}

TEST(OnnxBuilder, ConstantsKeepEveryBit) {
  const onnx::ModelProto model = Parse(*SmallModel());
  ASSERT_EQ(model.graph().initializer_size(), 2);
  const auto& w = model.graph().initializer(0);
  EXPECT_EQ(w.data_type(), onnx::TensorProto::FLOAT);
  EXPECT_THAT(w.dims(), ElementsAre(3, 2));
  EXPECT_THAT(RawData<float>(w), ElementsAre(1, 2, 3, 4, 5, 0.1F));
  const auto& shape = model.graph().initializer(1);
  EXPECT_EQ(shape.data_type(), onnx::TensorProto::INT64);
  EXPECT_THAT(RawData<int64_t>(shape), ElementsAre(-1, 2, 1));
}

TEST(OnnxBuilder, AttributesHaveTheirTypes) {
  OnnxBuilder onnx("attributes");
  const std::string x = onnx.AddInput("x", {1, 1, 8});
  onnx.AddNode("Any", "any", {x},
               {{"axis", int64_t{-1}},
                {"alpha", 0.5F},
                {"auto_pad", std::string("SAME_UPPER")},
                {"strides", std::vector<int64_t>{2, 3}}});
  const onnx::ModelProto model = Parse(onnx);
  const auto& attributes = model.graph().node(0).attribute();
  ASSERT_EQ(attributes.size(), 4);
  EXPECT_EQ(attributes[0].type(), onnx::AttributeProto::INT);
  EXPECT_EQ(attributes[0].i(), -1);
  EXPECT_EQ(attributes[1].type(), onnx::AttributeProto::FLOAT);
  EXPECT_EQ(attributes[1].f(), 0.5F);
  EXPECT_EQ(attributes[2].type(), onnx::AttributeProto::STRING);
  EXPECT_EQ(attributes[2].s(), "SAME_UPPER");
  EXPECT_EQ(attributes[3].type(), onnx::AttributeProto::INTS);
  EXPECT_THAT(attributes[3].ints(), ElementsAre(2, 3));
}

TEST(OnnxBuilder, TheSameCallsGiveTheSameBytes) {
  EXPECT_EQ(SmallModel()->Serialize(), SmallModel()->Serialize());
}

TEST(OnnxBuilderDeathTest, ANameIsGivenOnce) {
  OnnxBuilder onnx("twice");
  onnx.AddInput("x", {1});
  EXPECT_DEATH(onnx.AddInput("x", {1}), "CHECK");
}

TEST(OnnxBuilderDeathTest, ANodeReadsWhatIsThere) {
  OnnxBuilder onnx("dangling");
  EXPECT_DEATH(onnx.AddNode("Relu", "y", {"x"}), "CHECK");
}

}  // namespace
}  // namespace muster::worker
