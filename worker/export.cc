#include "worker/export.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/device.h"
#include "telemetry/check.h"
#include "telemetry/file.h"
#include "worker/onnx/builder.h"
#include "worker/onnx/layers.h"

namespace muster::worker {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kOutput[] = "probabilities";

// A shape for people: the batch by name.
Json ShapeJson(const std::vector<int64_t>& shape) {
  Json json = Json::array();
  for (const int64_t d : shape) {
    if (d == OnnxBuilder::kBatch) {
      json.push_back("batch");
    } else {
      json.push_back(d);
    }
  }
  return json;
}

std::string DescribeModule(const FrontEnd& front_end, const std::vector<std::string>& labels,
                           const ModelOrigin& origin) {
  Json json;
  json["schemaVersion"] = 1;
  if (!origin.module.empty()) json["module"] = origin.module;
  if (!origin.flags.empty()) json["flags"] = origin.flags;
  if (origin.step >= 0) json["step"] = origin.step;
  Json input = {{"name", front_end.input},
                {"type", "float32"},
                {"shape", ShapeJson(front_end.input_shape)},
                {"means", front_end.input_means}};
  for (const auto& [name, number] : front_end.numbers) input[name] = number;
  json["model"] = "model.onnx";
  json["input"] = std::move(input);
  json["output"] = {{"name", kOutput},
                    {"type", "float32"},
                    {"shape", {"batch", labels.size()}},
                    {"means", "the probability of each label, in the order of labels.txt"}};
  json["labels"] = labels;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// The graph's input when the module has no front end: the model's own inputs.
FrontEnd PlainInput(const Model& model, OnnxBuilder& onnx) {
  FrontEnd front_end;
  front_end.input = "inputs";
  front_end.input_shape = {OnnxBuilder::kBatch, model.input_size()};
  front_end.input_means = "the model's inputs, one sample per row";
  front_end.value = onnx.AddInput(front_end.input, front_end.input_shape);
  return front_end;
}

void CheckTable(const Model& model, const ps::ParamTable& table) {
  CHECK_EQ(model.params().size(), table.specs().size());
  for (size_t i = 0; i < table.specs().size(); ++i) {
    CHECK_EQ(model.params()[i].name, table.specs()[i].name);
    CHECK_EQ(model.params()[i].size(), table.specs()[i].size());
  }
}

}  // namespace

absl::StatusOr<std::string> ExportModel(const Module& module, const ps::ParamTable& table,
                                        std::span<const float> weights,
                                        const std::string& directory, const ModelOrigin& origin) {
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  const std::unique_ptr<Model> model = module.MakeModel(*device);
  CheckTable(*model, table);
  CHECK_EQ(static_cast<int64_t>(weights.size()), table.arena_size());
  const std::vector<std::string> labels = module.labels();
  CHECK_EQ(static_cast<int64_t>(labels.size()), model->num_classes());

  OnnxBuilder onnx(origin.module.empty() ? "model" : origin.module);
  ASSIGN_OR_RETURN(std::optional<FrontEnd> front_end, module.AddFrontEnd(onnx));
  if (!front_end) front_end = PlainInput(*model, onnx);
  ASSIGN_OR_RETURN(const std::string logits,
                   AddLayerNodes(model->layers(), {table, weights}, front_end->value, onnx));
  onnx.AddNode("Softmax", kOutput, {logits}, {{"axis", int64_t{-1}}});
  onnx.AddOutput(kOutput, {OnnxBuilder::kBatch, model->num_classes()});

  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    return absl::UnavailableError(
        fmt::format("cannot make the folder {}: {}", directory, error.message()));
  }
  const std::string path = directory + "/model.onnx";
  RETURN_IF_ERROR(
      WriteFileAtomically(directory + "/labels.txt", fmt::format("{}\n", fmt::join(labels, "\n"))));
  RETURN_IF_ERROR(
      WriteFileAtomically(directory + "/module.json", DescribeModule(*front_end, labels, origin)));
  RETURN_IF_ERROR(WriteFileAtomically(path, onnx.Serialize()));
  return path;
}

}  // namespace muster::worker
