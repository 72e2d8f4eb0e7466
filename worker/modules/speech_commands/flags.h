// The flags of the module "speech_commands" and what they mean. Pure functions: thread-safe.
#pragma once

#include <string>
#include <vector>

#include "telemetry/status.h"
#include "worker/module.h"
#include "worker/modules/speech_commands/corpus.h"
#include "worker/modules/speech_commands/dataset.h"
#include "worker/modules/speech_commands/features.h"

namespace muster::worker {

struct SpeechSettings {
  CorpusSettings corpus;
  AugmentSettings augment;
  FrontEndSettings front_end;
  int64_t clip_budget = 0;  // bytes of a GPU's memory
  std::string architecture;
};

// Names, defaults and meanings as in TensorFlow's train.py, but for gpu_clips_mib; those of a
// `training:` knob are its aliases.
std::vector<Flag> SpeechFlags();

// `flags` holds every flag of SpeechFlags(), of its type. Fails with all values that make no sense,
// a line for each.
absl::StatusOr<SpeechSettings> SpeechSettingsFrom(const FlagValues& flags);

}  // namespace muster::worker
