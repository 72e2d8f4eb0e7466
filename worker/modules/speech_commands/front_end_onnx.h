// The MFCC front end as ONNX nodes, so that an exported model takes PCM. features.h has the
// formulas.
//
// Free functions, thread-safe.
#pragma once

#include <string>

#include "worker/module.h"
#include "worker/modules/speech_commands/features.h"
#include "worker/onnx/builder.h"

namespace muster::worker {

// Adds the front end behind `pcm` [batch, clip_samples] and returns its coefficients [batch, frames
// * coefficients]. Nodes and constants are called "front_end/…".
std::string AddMfccNodes(const MfccFrontEnd& front_end, const std::string& pcm, OnnxBuilder& onnx);

// The same with its input `pcm`, as a module hands it to the export.
FrontEnd MakePcmFrontEnd(const MfccFrontEnd& front_end, OnnxBuilder& onnx);

}  // namespace muster::worker
