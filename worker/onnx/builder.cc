#include "worker/onnx/builder.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <onnx/onnx_pb.h>

#include <bit>
#include <set>

#include "telemetry/check.h"

namespace muster::worker {
namespace {

static_assert(std::endian::native == std::endian::little, "raw_data is little-endian");

int64_t NumElements(const OnnxBuilder::Shape& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

void SetValueInfo(const std::string& name, const OnnxBuilder::Shape& shape,
                  onnx::ValueInfoProto* info) {
  info->set_name(name);
  auto* tensor = info->mutable_type()->mutable_tensor_type();
  tensor->set_elem_type(onnx::TensorProto::FLOAT);
  for (const int64_t d : shape) {
    auto* dim = tensor->mutable_shape()->add_dim();
    if (d == OnnxBuilder::kBatch) {
      dim->set_dim_param("batch");
    } else {
      dim->set_dim_value(d);
    }
  }
}

// Sets one attribute by the type of its value.
struct AttributeSetter {
  onnx::AttributeProto* to;

  void operator()(int64_t value) const {
    to->set_type(onnx::AttributeProto::INT);
    to->set_i(value);
  }
  void operator()(float value) const {
    to->set_type(onnx::AttributeProto::FLOAT);
    to->set_f(value);
  }
  void operator()(const std::string& value) const {
    to->set_type(onnx::AttributeProto::STRING);
    to->set_s(value);
  }
  void operator()(const std::vector<int64_t>& value) const {
    to->set_type(onnx::AttributeProto::INTS);
    to->mutable_ints()->Assign(value.begin(), value.end());
  }
};

}  // namespace

struct OnnxBuilder::Model {
  onnx::ModelProto proto;
  std::set<std::string, std::less<>> names;  // of values
};

OnnxBuilder::OnnxBuilder(const std::string& graph_name) : model_(std::make_unique<Model>()) {
  model_->proto.set_ir_version(kIrVersion);
  model_->proto.set_producer_name("muster");
  model_->proto.add_opset_import()->set_version(kOpset);
  model_->proto.mutable_graph()->set_name(graph_name);
}

OnnxBuilder::~OnnxBuilder() = default;

void OnnxBuilder::Claim(std::string_view name) {
  CHECK(!name.empty());
  CHECK(model_->names.emplace(name).second);
}

std::string OnnxBuilder::AddInput(const std::string& name, const Shape& shape) {
  Claim(name);
  SetValueInfo(name, shape, model_->proto.mutable_graph()->add_input());
  return name;
}

void OnnxBuilder::AddOutput(const std::string& value, const Shape& shape) {
  CHECK(model_->names.contains(value));
  SetValueInfo(value, shape, model_->proto.mutable_graph()->add_output());
}

std::string OnnxBuilder::AddConstant(const std::string& name, const Shape& shape,
                                     std::span<const float> data) {
  CHECK_EQ(NumElements(shape), static_cast<int64_t>(data.size()));
  Claim(name);
  onnx::TensorProto* tensor = model_->proto.mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::FLOAT);
  tensor->mutable_dims()->Assign(shape.begin(), shape.end());
  tensor->set_raw_data(data.data(), data.size_bytes());
  return name;
}

std::string OnnxBuilder::AddIntegers(const std::string& name, std::span<const int64_t> data) {
  Claim(name);
  onnx::TensorProto* tensor = model_->proto.mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::INT64);
  tensor->add_dims(static_cast<int64_t>(data.size()));
  tensor->set_raw_data(data.data(), data.size_bytes());
  return name;
}

std::string OnnxBuilder::AddNode(const std::string& op, const std::string& name,
                                 const std::vector<std::string>& inputs,
                                 const Attributes& attributes) {
  for (const std::string& input : inputs) CHECK(model_->names.contains(input));
  Claim(name);
  onnx::NodeProto* node = model_->proto.mutable_graph()->add_node();
  node->set_op_type(op);
  node->set_name(name);
  for (const std::string& input : inputs) node->add_input(input);
  node->add_output(name);
  for (const auto& [key, value] : attributes) {
    onnx::AttributeProto* attribute = node->add_attribute();
    attribute->set_name(key);
    std::visit(AttributeSetter{attribute}, value);
  }
  return name;
}

std::string OnnxBuilder::AddReshape(const std::string& name, const std::string& value,
                                    const Shape& shape) {
  return AddNode("Reshape", name, {value, AddIntegers(name + ":shape", shape)});
}

void OnnxBuilder::AddMetadata(const std::string& key, const std::string& value) {
  onnx::StringStringEntryProto* entry = model_->proto.add_metadata_props();
  entry->set_key(key);
  entry->set_value(value);
}

std::string OnnxBuilder::Serialize() const {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  CHECK(model_->proto.SerializeToCodedStream(&coded));
  coded.Trim();
  return bytes;
}

}  // namespace muster::worker
