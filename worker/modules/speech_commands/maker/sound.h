// Sound: from a spoken word to a clip, and the kinds of background noise.
//
// Pure functions: thread-safe. Samples are float in [−1, 1], at 16 kHz where nothing else is said.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "worker/modules/speech_commands/maker/plan.h"

namespace muster::worker {

inline constexpr int kMadeRate = 16000;  // Hz
inline constexpr int kMadeClip = 16000;  // samples

// `input` at `from` Hz as kMadeRate Hz: windowed sinc, cut off below the lower of the two half
// rates.
std::vector<float> Resample(std::span<const float> input, int from);

// One clip [kMadeClip]: the word without the silence around it, through a microphone and a room, at
// its place and loudness, over a little noise. A word longer than the clip is cut.
std::vector<int16_t> MakeClip(const ClipPlan& plan, uint64_t seed, std::span<const float> word);

// Noise that needs no voices, by name; see NoiseNames.
std::vector<float> MakeNoise(const std::string& name, uint64_t seed, int64_t samples);
std::vector<std::string> NoiseNames();

// Many talkers at once: each word, at a random moment and loudness, added up.
std::vector<float> MakeBabble(std::span<const std::vector<int16_t>> words, uint64_t seed,
                              int64_t samples);

// Scaled to the root mean square of a noise file, cut at full scale.
std::vector<int16_t> FinishNoise(const std::vector<float>& noise);

}  // namespace muster::worker
