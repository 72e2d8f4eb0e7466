// Plan: what each clip of a made data set is, before any sound is made.
//
// Pure functions of (engine, seed, index): thread-safe. The first N clips of a plan for 2N are the
// plan for N.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/philox.h"

namespace muster::worker {

// An endless sequence of uniform numbers for one purpose and index.
class Draws {
 public:
  Draws(uint64_t seed, const char* purpose, uint64_t index);
  double Uniform(double low, double high);
  int64_t Below(int64_t n);  // uniform in [0, n)
  double Normal();

 private:
  uint32_t Word();
  PhiloxKey key_;
  uint64_t index_, next_ = 0;
  PhiloxBlock block_ = {};
};

struct Voice {
  std::string accent;   // espeak: a language below gmw/; flite: a voice
  std::string variant;  // espeak: a file in voices/!v; flite: empty
  std::string speaker;  // eight hexadecimal digits: a function of accent and variant alone

  friend bool operator==(const Voice&, const Voice&) = default;
};

// 7 accents × the variants that are a voice of their own.
std::vector<Voice> EspeakVoices();
// The four voices of 16 kHz; their speakers are such that every clip counts as testing under the
// default percentages.
std::vector<Voice> FliteVoices();

struct ClipPlan {
  int64_t index = 0;
  std::string word;
  Voice voice;
  std::string file;      // word/speaker_nohash_n.wav, n counting the clips of this word and speaker
  double pitch = 0.5;    // 0 … 1 of the engine's range
  double range = 0.5;    // of the intonation, 0 … 1
  double speed = 1;      // of speech; 1 is the engine's normal
  double place = 0.5;    // of the word in the free part of the clip
  double peak = 0.5;     // of full scale
  double tilt = 0;       // of the spectrum, −1 … 1: the microphone
  double echo = 0;       // strength of the first reflection: the room
  double floor = 0.001;  // deviation of the white noise under everything, of full scale

  friend bool operator==(const ClipPlan&, const ClipPlan&) = default;
};

struct PlanSettings {
  uint64_t seed = 1;
  std::vector<std::string> words;    // each tenth of five sixths of the clips
  std::vector<std::string> unknown;  // one sixth of the clips together; may be empty
};

inline constexpr int kUnknownInTwelve = 2;  // two clips of twelve say a word of `unknown`

// Clips 0 … count − 1. PRECONDITION: words and voices are not empty.
std::vector<ClipPlan> PlanClips(const PlanSettings& settings, const std::vector<Voice>& voices,
                                int64_t count);

}  // namespace muster::worker
