// Corpus: the clips under a data directory, by split. `<data_dir>/<word>/<speaker>_nohash_<n>.wav`;
// `_background_noise_` is no word.
//
// Immutable after Scan: thread-safe. Scan lists folders and opens no file. What is in it depends on
// the names alone: the same on every replica.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "telemetry/status.h"
#include "worker/module.h"

namespace muster::worker {

inline constexpr int32_t kSilence = 0;  // class indices; wanted word i is class i + 2
inline constexpr int32_t kUnknownWord = 1;
inline constexpr char kNoiseFolder[] = "_background_noise_";

struct CorpusSettings {
  std::string data_dir;
  std::vector<std::string> wanted_words;
  double silence_percentage = 10;  // of the wanted clips, added to each split as silence
  double unknown_percentage = 10;  // of the wanted clips, added to each split from other words
  double validation_percentage = 10;
  double testing_percentage = 10;
};

class Corpus {
 public:
  struct Clip {
    std::string path;  // below data_dir; empty: silence
    int32_t label = kSilence;
  };

  // Fails when the directory is absent, cannot be listed or holds no clips, and when a wanted word
  // has no clip; the message says which.
  static absl::StatusOr<Corpus> Scan(const CorpusSettings& settings);

  // Wanted words in order of path, then silence, then unknown words: ⌈percentage⌉ of each, as
  // TensorFlow adds them.
  const std::vector<Clip>& clips(Split split) const { return splits_[static_cast<int>(split)]; }
  // Clips of all splits that are files, so not silence.
  int64_t num_files() const;

 private:
  std::array<std::vector<Clip>, 3> splits_;
};

const char* SplitName(Split split);

}  // namespace muster::worker
