// ExportModel: writes a trained model where other programs can use it.
//
// A free function, thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "ps/param.h"
#include "telemetry/status.h"
#include "worker/module.h"

namespace muster::worker {

// Where a model comes from, as module.json tells it; what is empty is left out.
struct ModelOrigin {
  std::string module;  // "speech_commands"
  FlagValues flags;    // every flag of the module
  int64_t step = -1;   // of the checkpoint
};

// Writes model.onnx, labels.txt and module.json into `directory` (made when absent), each by
// rename, model.onnx last: where it is, the others are. `weights` is the arena
// (table.arena_size()).
//
// The graph (opset 13): the module's front end, the model's layers in inference, Softmax. Its
// output is `probabilities` [batch, classes], classes in the order of labels.txt; its input is the
// front end's, e.g. `pcm` [batch, 16000], or `inputs` [batch, input_size] without one. The batch is
// free. The same weights give the same bytes.
//
// Returns the path of model.onnx. Unimplemented, and nothing is written, when the model does not
// describe its layers or one has no ONNX form; else it fails with what the disk says. PRECONDITION:
// `table` is of this module's model, `weights` of its size (CHECK).
absl::StatusOr<std::string> ExportModel(const Module& module, const ps::ParamTable& table,
                                        std::span<const float> weights,
                                        const std::string& directory,
                                        const ModelOrigin& origin = {});

}  // namespace muster::worker
