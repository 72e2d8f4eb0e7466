// training.codec in one line, for plans, messages and checkpoints' manifests.
//
// Pure function: thread-safe.
#pragma once

#include <string>

#include "configs/job.pb.h"

namespace muster {

// "topk 0.01 pull bf16, *bias: none"; "none" where all travels as it is.
std::string FormatCodec(const CodecSpec& spec);

}  // namespace muster
