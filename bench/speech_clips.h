// SpeechClips: a data set to measure speech front ends with.
//
// Owned by one thread; owns the files.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "kernels/philox.h"
#include "telemetry/check.h"
#include "telemetry/log.h"
#include "tests/harness/temporary_folder.h"
#include "worker/modules/speech_commands/dataset.h"
#include "worker/modules/speech_commands/wav.h"

namespace muster::bench {

// `files` clips of one word, loud noise all of them, and one recording to mix in.
class SpeechClips {
 public:
  explicit SpeechClips(int files) {
    std::filesystem::create_directories(dir_ + "/yes");
    std::filesystem::create_directories(dir_ + "/" + worker::kNoiseFolder);
    std::vector<int16_t> samples(16000);
    for (int i = 0; i < files; ++i) {
      for (size_t n = 0; n < samples.size(); ++n) {
        samples[n] = static_cast<int16_t>(Philox({}, n, static_cast<uint64_t>(i))[0] >> 18);
      }
      Write(fmt::format("{}/yes/{:08x}_nohash_0.wav", dir_, i), samples);
    }
    samples.resize(160000, 99);
    Write(dir_ + "/" + worker::kNoiseFolder + "/noise.wav", samples);
  }

  // All of them, for training. `log` outlives it.
  std::unique_ptr<worker::SpeechDataset> Training(Log& log) const {
    auto corpus = worker::Corpus::Scan({.data_dir = dir_,
                                        .wanted_words = {"yes"},
                                        .validation_percentage = 0,
                                        .testing_percentage = 0});
    auto noise = worker::Noise::Load(dir_ + "/" + worker::kNoiseFolder, 16000, 16000);
    CHECK(corpus.ok() && noise.ok());
    auto bad = std::make_shared<worker::BadClips>(dir_, corpus->num_files());
    return std::make_unique<worker::SpeechDataset>(
        dir_, worker::Split::kTraining, 1, worker::AugmentSettings{},
        std::make_shared<const worker::Corpus>(*std::move(corpus)),
        std::make_shared<const worker::Noise>(*std::move(noise)),
        std::make_shared<const worker::MfccFrontEnd>(*worker::MfccFrontEnd::Make({})),
        std::move(bad), log);
  }

 private:
  static void Write(const std::string& path, const std::vector<int16_t>& samples) {
    CHECK(worker::WriteWav(path, 16000, samples).ok());
  }

  const harness::TemporaryFolder temporary_;
  const std::string dir_ = temporary_.path();
};

}  // namespace muster::bench
