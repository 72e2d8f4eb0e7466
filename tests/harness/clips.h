// Sounds to try front ends and models with: what microphones give, and what is hard for float32.
//
// Pure functions: thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace muster::harness {

struct Clip {
  std::string name;
  bool tone = false;             // pure tones and constants: nothing but rounding in other channels
  std::vector<int16_t> samples;  // one second at 16 kHz

  std::vector<float> pcm() const;  // in [-1, 1)
};

std::vector<Clip> Clips();

}  // namespace muster::harness
