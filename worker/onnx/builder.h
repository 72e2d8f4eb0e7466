// OnnxBuilder: an ONNX model put together node by node (opset 13, IR version 7: read by every
// runtime since 2020).
//
// Thread-compatible. Owns copies of everything given to it. Values are named by the strings that
// the Add functions return; every value is float32 unless said otherwise. A name that is given
// twice is a bug of the caller (CHECK).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace muster::worker {

class OnnxBuilder {
 public:
  using Attribute = std::variant<int64_t, float, std::string, std::vector<int64_t>>;
  using Attributes = std::vector<std::pair<std::string, Attribute>>;
  using Shape = std::vector<int64_t>;

  static constexpr int64_t kBatch = -1;  // a dimension that whoever runs the model chooses
  static constexpr int kOpset = 13;
  static constexpr int kIrVersion = 7;

  explicit OnnxBuilder(const std::string& graph_name);
  ~OnnxBuilder();
  OnnxBuilder(const OnnxBuilder&) = delete;
  OnnxBuilder& operator=(const OnnxBuilder&) = delete;

  // Declares an input of the model and returns its name.
  std::string AddInput(const std::string& name, const Shape& shape);
  // Declares `value` as an output of the model.
  void AddOutput(const std::string& value, const Shape& shape);
  // A constant of `shape`; `data` has as many elements. Returns `name`.
  std::string AddConstant(const std::string& name, const Shape& shape, std::span<const float> data);
  // An int64 constant of one dimension, as Reshape and Slice want them. Returns `name`.
  std::string AddIntegers(const std::string& name, std::span<const int64_t> data);
  // A node with one output, which is called `name` like the node. Returns `name`.
  std::string AddNode(const std::string& op, const std::string& name,
                      const std::vector<std::string>& inputs, const Attributes& attributes = {});
  // `value` in another shape: a Reshape and its constant. kBatch keeps what the other dimensions
  // leave.
  std::string AddReshape(const std::string& name, const std::string& value, const Shape& shape);
  // A text that travels with the model.
  void AddMetadata(const std::string& key, const std::string& value);

  // The ModelProto's bytes. The same calls give the same bytes.
  std::string Serialize() const;

 private:
  struct Model;
  void Claim(std::string_view name);

  const std::unique_ptr<Model> model_;
};

}  // namespace muster::worker
