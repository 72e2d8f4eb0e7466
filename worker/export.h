// ExportModel: writes a trained model where other programs can use it.
//
// A free function, thread-safe.
#pragma once

#include <span>
#include <string>

#include "ps/param.h"
#include "telemetry/status.h"
#include "worker/module.h"

namespace muster::worker {

// Writes model.onnx, labels.txt and module.json into `directory` (made when absent), each by rename. `weights` is the arena in `table`'s
// order. Returns the path of model.onnx; Unimplemented when the module's model cannot be described as ONNX.
absl::StatusOr<std::string> ExportModel(const Module& module, const ps::ParamTable& table,
                                        std::span<const float> weights,
                                        const std::string& directory);

}  // namespace muster::worker
