// What is wrong with a gradient, in one sentence: for who pushed it, and for the end of the job.
//
// Pure functions: thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/codec.h"
#include "telemetry/status.h"

namespace muster::ps {

// InvalidArgument: "the gradient of `slice` at step `step` from replica `replica` `why`".
absl::Status BadGradient(const std::string& slice, int64_t step, int64_t replica,
                         const std::string& why);
// It, or the sum that it was added to, is not finite; `codec` (may be null) is how it travelled.
absl::Status NonFiniteGradient(const std::string& slice, int64_t step, int64_t replica,
                               const Codec* codec);

}  // namespace muster::ps
