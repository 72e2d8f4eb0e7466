// The layers of a model as ONNX nodes: one function per kind of layer, found in a table.
//
// Free functions, thread-safe.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "ps/param.h"
#include "telemetry/status.h"
#include "worker/layer_description.h"
#include "worker/onnx/builder.h"

namespace muster::worker {

// A model's weights: the arena (table.arena_size()) and what lies where in it. Borrowed.
struct LayerWeights {
  const ps::ParamTable& table;
  std::span<const float> arena;
};

// Adds `layers` in their order behind `input` [batch, elements of the first input_shape] and
// returns the last layer's value [batch, elements of the last output_shape]. Nodes are called as
// their layers, or
// "<layer>:…"; constants as their parameters. Fails with Unimplemented when `layers` is empty (the
// model does not describe itself) or has a kind that is not in the table; a description that
// contradicts itself or the table of parameters is a bug (CHECK).
absl::StatusOr<std::string> AddLayerNodes(std::span<const LayerDescription> layers,
                                          const LayerWeights& weights, const std::string& input,
                                          OnnxBuilder& onnx);

}  // namespace muster::worker
