// The MFCC front end as ONNX nodes, so that an exported model takes PCM. features.h has the
// formulas.
//
// A free function, thread-safe.
#pragma once

#include <string>

#include "worker/modules/speech_commands/features.h"
#include "worker/onnx/builder.h"

namespace muster::worker {

// Adds the front end behind `pcm` [batch, clip_samples] and returns its coefficients [batch, frames
// * coefficients]. Nodes and constants are called "front_end/…".
std::string AddMfccNodes(const MfccFrontEnd& front_end, const std::string& pcm, OnnxBuilder& onnx);

}  // namespace muster::worker
