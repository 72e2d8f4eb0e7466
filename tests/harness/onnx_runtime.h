// Runs exported models in programs that are not ours: onnxruntime-web under node, and the checker
// of Debian's python3-onnx.
//
// Free functions, thread-safe; each starts a process and waits for it. Tests run in the root of the
// repository.
#pragma once

#include <string>
#include <vector>

#include "telemetry/status.h"

namespace muster::harness {

// Why onnxruntime-web cannot run here and what to do; empty when it can.
std::string OnnxRuntimeMissing();

// The model's output for each clip [input elements], all in one batch: one row per clip.
// `directory` takes the clips' files. Fails with what the runtime says.
absl::StatusOr<std::vector<std::vector<float>>> RunOnnxRuntime(
    const std::string& model, const std::vector<std::vector<float>>& clips,
    const std::string& directory);

// The same for WAV files, which the runtime's side reads on its own.
absl::StatusOr<std::vector<std::vector<float>>> RunOnnxRuntimeOnFiles(
    const std::string& model, const std::vector<std::string>& files);

// Why onnx.checker cannot run here; empty when it can.
std::string OnnxCheckerMissing();

// onnx.checker.check_model with shape inference in strict mode. Fails with what it says.
absl::Status CheckOnnx(const std::string& model);

}  // namespace muster::harness
