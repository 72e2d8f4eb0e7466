// LayerDescription: what a layer computes in inference, as data, so that a model can be stated
// again elsewhere (the ONNX export).
//
// A value type, thread-compatible. Shapes are of one sample, without the batch; images are [height,
// width, channels], and a flat sample is the same elements in row-major order: the two may follow
// each other without a "reshape" in between.
//
// Kinds that worker/onnx/layers.cc can state, with their numbers and parameters:
//   dense     y = x W + b                     params: W [in, out], b [out]
//   conv2d    SAME or VALID cross-correlation numbers: stride_h, stride_w, same (0, 1)
//                                             params: filter [kh, kw, in, out], b [out] or none
//   max_pool  SAME or VALID                   numbers: window_h, window_w, stride_h, stride_w, same
//   relu, tanh, dropout (nothing in inference), reshape: no numbers
//   svdf      see the layer                   numbers: rank
//   batch_norm, layer_norm: see the layers    epsilon
//                                             params: gain, offset; batch_norm: mean, variance
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace muster::worker {

struct LayerDescription {
  std::string kind;
  std::string name;  // unique within the model, e.g. "conv1"
  std::vector<int64_t> input_shape;
  std::vector<int64_t> output_shape;
  std::map<std::string, int64_t> numbers;
  std::vector<std::string> params;  // names of the model's ParamSpecs, in the order above
  float epsilon = 0;                // of a norm
};

}  // namespace muster::worker
