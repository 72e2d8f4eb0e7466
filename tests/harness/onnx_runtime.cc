#include "tests/harness/onnx_runtime.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace muster::harness {
namespace {

constexpr char kRunner[] = "tests/onnx_runtime/run_model.mjs";
constexpr char kRuntime[] = "tests/onnx_runtime/node_modules/onnxruntime-web";
// Debian's python has Debian's packages; another one that comes first on the path has not.
constexpr char kPython[] = "/usr/bin/python3";

std::string ShellQuoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted += c;
    }
  }
  return quoted + "'";
}

// Standard output and error of `arguments`, which must end with 0.
absl::StatusOr<std::string> Run(const std::vector<std::string>& arguments) {
  std::string command;
  for (const std::string& argument : arguments) command += ShellQuoted(argument) + " ";
  command += "2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return absl::InternalError("popen failed");
  std::string output;
  char buffer[4096];
  while (const size_t n = fread(buffer, 1, sizeof(buffer), pipe)) output.append(buffer, n);
  const int status = pclose(pipe);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return absl::InternalError(fmt::format("{} failed: {}", arguments[0], output));
  }
  return output;
}

}  // namespace

std::string OnnxRuntimeMissing() {
  if (!Run({"node", "--version"}).ok()) return "node is not installed (Debian's package nodejs)";
  if (!std::filesystem::exists(kRuntime)) {
    return "onnxruntime-web is not installed; run npm ci in tests/onnx_runtime";
  }
  return "";
}

absl::StatusOr<std::vector<std::vector<float>>> RunOnnxRuntime(
    const std::string& model, const std::vector<std::vector<float>>& clips,
    const std::string& directory) {
  std::vector<std::string> files;
  for (size_t i = 0; i < clips.size(); ++i) {
    files.push_back(fmt::format("{}/clip-{}.f32", directory, i));
    std::ofstream file(files.back(), std::ios::binary);
    file.write(reinterpret_cast<const char*>(clips[i].data()),
               static_cast<std::streamsize>(clips[i].size() * sizeof(float)));
    if (!file.flush()) return absl::InternalError("cannot write " + files.back());
  }
  return RunOnnxRuntimeOnFiles(model, files);
}

absl::StatusOr<std::vector<std::vector<float>>> RunOnnxRuntimeOnFiles(
    const std::string& model, const std::vector<std::string>& files) {
  std::vector<std::string> arguments = {"node", kRunner, model};
  arguments.insert(arguments.end(), files.begin(), files.end());
  ASSIGN_OR_RETURN(const std::string output, Run(arguments));
  const auto json = nlohmann::json::parse(output, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return absl::InternalError("the runtime printed no JSON: " + output);
  return json["rows"].get<std::vector<std::vector<float>>>();
}

std::string OnnxCheckerMissing() {
  if (!Run({kPython, "-c", "import onnx"}).ok()) {
    return "python3-onnx is not installed (Debian's package)";
  }
  return "";
}

absl::Status CheckOnnx(const std::string& model) {
  constexpr char kProgram[] =
      "import sys, onnx\n"
      "model = onnx.load(sys.argv[1])\n"
      "onnx.checker.check_model(model, full_check=True)\n"
      "onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)\n";
  return Run({kPython, "-c", kProgram, model}).status();
}

}  // namespace muster::harness
