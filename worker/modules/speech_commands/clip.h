// One file's features, for a trained model that is asked about it. Pure functions: thread-safe.
#pragma once

#include <span>
#include <string>

#include "telemetry/status.h"
#include "worker/modules/speech_commands/features.h"

namespace muster::worker {

// Writes the coefficients of the WAV file at `path` to `features` [front_end.output_size()]: as an
// evaluation sample of the clip, without noise. A longer file is cut, a shorter one ends in
// silence. Fails as ReadWav does, beginning with the path.
absl::Status ReadClipFeatures(const std::string& path, const MfccFrontEnd& front_end,
                              std::span<float> features);

}  // namespace muster::worker
