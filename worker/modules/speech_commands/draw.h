// Draw: what is random about one sample of speech.
//
// Pure functions: thread-safe.
#pragma once

#include <cstdint>

#include "worker/module.h"

namespace muster::worker {

struct AugmentSettings {
  int time_shift = 1600;              // samples
  double background_volume = 0.1;     // of full scale
  double background_frequency = 0.8;  // share of the training clips with noise
};

struct Draw {
  int shift = 0;                  // samples; positive: later
  uint32_t which = 0, where = 0;  // of the noise (Noise::Pick)
  float volume = 0;               // of the noise, of full scale; 0: none
};

// By Philox over (seed, split, `draw` in training, else `index`).
Draw DrawSample(uint64_t seed, Split split, int64_t index, int64_t draw, bool silence,
                const AugmentSettings& augment);

}  // namespace muster::worker
