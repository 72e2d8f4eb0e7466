// SpeechDataset: one split of the corpus as MFCC features, with noise mixed in.
//
// Training, sample (index, draw): the clip, moved in time by up to ±time_shift, and with
// probability background_frequency a piece of noise at a volume uniform in [0, background_volume);
// all of it drawn by Philox over (seed, draw). Evaluation, sample index: no shift, and noise in
// every clip (where background_frequency and background_volume are not 0), drawn over (seed, split,
// index). Silence is noise alone, at a volume uniform in [0, 1).
//
// A clip that cannot be read is replaced by the next one that can: a rule of the files alone, so
// every replica does the same. Bad clips are counted and warned of up to 1 % of the corpus; one
// more, and Get fails and names the first of them. Each Get also checks the headers of a few
// further clips, so that the count of a split is complete, and told, after an eighth of an epoch.
//
// A device makes features itself (device_front_end.h). It keeps the clips when those of all splits
// fit into a budget, else they travel with their batches; the log says which.
//
// Thread-safe. Owns the work space of its callers; on the host clips are not cached (the page cache
// does that).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "telemetry/log.h"
#include "telemetry/mutex.h"
#include "telemetry/status.h"
#include "worker/dataset.h"
#include "worker/modules/speech_commands/corpus.h"
#include "worker/modules/speech_commands/draw.h"
#include "worker/modules/speech_commands/features.h"
#include "worker/modules/speech_commands/noise.h"

namespace muster::worker {

// Clips of a corpus that cannot be read, of all its splits together. Thread-safe.
class BadClips {
 public:
  // `data_dir` holds `clips` files.
  BadClips(std::string data_dir, int64_t clips);

  // Notes that the clip at `path` is bad because of `why`; warns at the 1st, 2nd, 4th, 8th … Fails
  // when there are more than 1 %.
  absl::Status Note(const std::string& path, const absl::Status& why, Log& log);
  // Says how many there are in all when `split` has been looked at and there were any.
  void TellCount(Split split, Log& log) const;
  int64_t count() const;

 private:
  const std::string data_dir_;
  const int64_t clips_;
  mutable Mutex mu_;
  std::set<std::string> seen_ ABSL_GUARDED_BY(mu_);
  std::vector<std::string> first_ ABSL_GUARDED_BY(mu_);
};

class SpeechDataset : public Dataset {
 public:
  static constexpr int64_t kClipBudget = int64_t{4} << 30;

  // What becomes of a clip.
  struct Mixture {
    int shift = 0;                   // samples; positive: later
    std::span<const int16_t> noise;  // [clip_samples], part of noise().samples(); empty: none
    float volume = 0;                // of full scale; 0 without noise
  };

  // `log` outlives the data set; `corpus`, `noise`, `front_end` and `bad` are shared between
  // splits. `clip_budget`: bytes of a device's memory for the corpus.
  SpeechDataset(std::string data_dir, Split split, uint64_t seed, AugmentSettings augment,
                std::shared_ptr<const Corpus> corpus, std::shared_ptr<const Noise> noise,
                std::shared_ptr<const MfccFrontEnd> front_end, std::shared_ptr<BadClips> bad,
                Log& log, int64_t clip_budget = kClipBudget);
  ~SpeechDataset() override;

  int64_t size() const override { return static_cast<int64_t>(clips_.size()); }
  int64_t input_size() const override { return front_end_->output_size(); }
  absl::Status Get(int64_t index, int64_t draw, std::span<float> input,
                   int32_t* label) const override;
  // Of the clips' names and labels, and how much noise there is; no file is opened.
  std::string Fingerprint() const override;
  absl::StatusOr<std::unique_ptr<DeviceFrontEnd>> MakeDeviceFrontEnd(
      Device& device, int64_t max_batch) const override;

  // The sample before the front end, `pcm` [clip_samples].
  absl::Status GetPcm(int64_t index, int64_t draw, std::span<float> pcm, int32_t* label) const;
  // What it is made of: the clip's samples, `clip` [clip_samples], with zeros behind the last one;
  // false, and none, when it is silence. And what becomes of them.
  absl::StatusOr<bool> GetClip(int64_t index, std::span<int16_t> clip, int32_t* label) const;
  Mixture MixtureOf(int64_t index, int64_t draw, int32_t label) const;
  const Noise& noise() const { return *noise_; }
  const MfccFrontEnd& front_end() const { return *front_end_; }

 private:
  struct Workspace;
  class Lease;

  std::string Path(int64_t index) const { return data_dir_ + "/" + clips_[index].path; }
  absl::Status CheckAhead() const;
  // At most clip_samples of the clip, or of the next one that is good; none for silence.
  absl::Status ReadClip(int64_t index, std::vector<int16_t>& samples, int32_t* label) const;
  absl::Status MakePcm(int64_t index, int64_t draw, std::vector<int16_t>& samples,
                       std::span<float> pcm, int32_t* label) const;

  const std::string data_dir_;
  const Split split_;
  const uint64_t seed_;
  const AugmentSettings augment_;
  const std::shared_ptr<const Corpus> corpus_;
  const std::shared_ptr<const Noise> noise_;
  const std::shared_ptr<const MfccFrontEnd> front_end_;
  const std::vector<Corpus::Clip>& clips_;
  const std::shared_ptr<BadClips> bad_;
  Log& log_;
  const int64_t clip_budget_;                 // bytes
  mutable std::atomic<int64_t> checking_{0};  // clips whose header somebody looks at, or has
  mutable std::atomic<int64_t> checked_{0};   // clips whose header was looked at
  mutable Mutex mu_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_ ABSL_GUARDED_BY(mu_);
};

}  // namespace muster::worker
