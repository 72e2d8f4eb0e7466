#include "worker/modules/speech_commands/dataset.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "kernels/philox.h"
#include "telemetry/check.h"
#include "worker/modules/speech_commands/wav.h"

namespace muster::worker {
namespace {

constexpr int64_t kCheckedPerGet = 8;  // headers
constexpr size_t kNamed = 5;           // bad clips in the final message
constexpr float kFullScale = 32768.0F;

// What is random about one sample.
struct Draw {
  int shift = 0;  // samples; positive: later
  uint32_t which = 0, where = 0;
  float volume = 0;  // of the noise
};

Draw DrawSample(uint64_t seed, Split split, int64_t index, int64_t draw, bool silence,
                const AugmentSettings& augment) {
  const bool training = split == Split::kTraining;
  const PhiloxKey key =
      DeriveKey(seed, HashName("speech_commands/augment"), static_cast<uint64_t>(split));
  const uint64_t at = static_cast<uint64_t>(training ? draw : index);
  const PhiloxBlock a = Philox(key, at, 0);
  const PhiloxBlock b = Philox(key, at, 1);
  Draw result = {.which = a[0], .where = a[1]};
  if (training) {
    const uint64_t range = uint64_t{2} * augment.time_shift + 1;
    result.shift = static_cast<int>(b[0] * range >> 32) - augment.time_shift;
  }
  if (silence) {
    result.volume = UniformFloat(a[2]);
  } else if (training ? UniformFloat(a[3]) < augment.background_frequency
                      : augment.background_frequency > 0) {
    result.volume = UniformFloat(a[2]) * static_cast<float>(augment.background_volume);
  }
  return result;
}

// pcm[n] = clip[n − shift] as a fraction of full scale, zero where the clip has no such sample.
void Place(std::span<const int16_t> clip, int shift, std::span<float> pcm) {
  const int64_t size = static_cast<int64_t>(pcm.size());
  const int64_t begin = std::clamp<int64_t>(shift, 0, size);
  const int64_t end = std::clamp<int64_t>(shift + static_cast<int64_t>(clip.size()), begin, size);
  std::fill(pcm.begin(), pcm.begin() + begin, 0.0F);
  for (int64_t n = begin; n < end; ++n) {
    pcm[n] = static_cast<float>(clip[n - shift]) * (1.0F / kFullScale);
  }
  std::fill(pcm.begin() + end, pcm.end(), 0.0F);
}

void Mix(std::span<const int16_t> noise, float volume, std::span<float> pcm) {
  const float scale = volume / kFullScale;
  for (size_t n = 0; n < pcm.size(); ++n) {
    pcm[n] = std::min(std::max(pcm[n] + scale * static_cast<float>(noise[n]), -1.0F), 1.0F);
  }
}

}  // namespace

BadClips::BadClips(std::string data_dir, int64_t clips)
    : data_dir_(std::move(data_dir)), clips_(clips) {}

absl::Status BadClips::Note(const std::string& path, const absl::Status& why, Log& log) {
  MutexLock lock(mu_);
  const int64_t allowed = clips_ / 100;
  const std::string reason(why.message());
  if (seen_.insert(path).second) {
    if (first_.size() < kNamed) {
      first_.push_back(reason);
    }
    const auto count = seen_.size();
    if (std::has_single_bit(count) && static_cast<int64_t>(count) <= allowed) {
      log.Warning("skipped {} bad clip{} of the {} in {} (at most {} are): {}", count,
                  count == 1 ? "" : "s", clips_, data_dir_, allowed, reason);
    }
  }
  if (static_cast<int64_t>(seen_.size()) <= allowed) {
    return absl::OkStatus();
  }
  return absl::DataLossError(fmt::format(
      "more than 1 % of the {} clips in {} cannot be used: convert or remove them. The "
      "first {}: {}",
      clips_, data_dir_, first_.size() == 1 ? "is" : fmt::format("{} are", first_.size()),
      fmt::join(first_, "; ")));
}

void BadClips::TellCount(Split split, Log& log) const {
  const int64_t bad = count();
  // The first one has been told with its reason.
  if (bad < 2) return;
  log.Warning(
      "all clips of the {} split of {} were looked at: {} of the {} clips are bad and skipped",
      SplitName(split), data_dir_, bad, clips_);
}

int64_t BadClips::count() const {
  MutexLock lock(mu_);
  return static_cast<int64_t>(seen_.size());
}

struct SpeechDataset::Workspace {
  std::vector<int16_t> samples;
  std::vector<float> pcm;
  MfccFrontEnd::Scratch scratch;
};

// Borrows a work space; there are never more than callers at the same time.
class SpeechDataset::Lease {
 public:
  explicit Lease(const SpeechDataset& owner) : owner_(owner) {
    MutexLock lock(owner_.mu_);
    if (!owner_.idle_.empty()) {
      workspace_ = std::move(owner_.idle_.back());
      owner_.idle_.pop_back();
    } else {
      workspace_ = std::make_unique<Workspace>();
    }
  }
  ~Lease() {
    MutexLock lock(owner_.mu_);
    owner_.idle_.push_back(std::move(workspace_));
  }
  Workspace* operator->() { return workspace_.get(); }

 private:
  const SpeechDataset& owner_;
  std::unique_ptr<Workspace> workspace_;
};

SpeechDataset::SpeechDataset(std::string data_dir, Split split, uint64_t seed,
                             AugmentSettings augment, std::shared_ptr<const Corpus> corpus,
                             std::shared_ptr<const Noise> noise,
                             std::shared_ptr<const MfccFrontEnd> front_end,
                             std::shared_ptr<BadClips> bad, Log& log)
    : data_dir_(std::move(data_dir)),
      split_(split),
      seed_(seed),
      augment_(augment),
      corpus_(std::move(corpus)),
      noise_(std::move(noise)),
      front_end_(std::move(front_end)),
      clips_(corpus_->clips(split)),
      bad_(std::move(bad)),
      log_(log) {}

SpeechDataset::~SpeechDataset() = default;

absl::Status SpeechDataset::CheckAhead() const {
  if (checking_.load(std::memory_order_relaxed) >= size()) {
    return absl::OkStatus();
  }
  const int64_t begin = checking_.fetch_add(kCheckedPerGet, std::memory_order_relaxed);
  const int64_t end = std::min(begin + kCheckedPerGet, size());
  for (int64_t i = begin; i < end; ++i) {
    if (clips_[i].path.empty()) continue;
    if (const absl::Status status = CheckWav(Path(i), front_end_->settings().sample_rate);
        !status.ok()) {
      RETURN_IF_ERROR(bad_->Note(clips_[i].path, status, log_));
    }
  }
  const int64_t now = std::max<int64_t>(0, end - begin);
  if (now > 0 && checked_.fetch_add(now) + now == size()) bad_->TellCount(split_, log_);
  return absl::OkStatus();
}

absl::Status SpeechDataset::ReadGood(int64_t index, std::vector<int16_t>& samples,
                                     int32_t* label) const {
  for (int64_t tried = 0; tried < size(); ++tried, index = (index + 1) % size()) {
    const Corpus::Clip& clip = clips_[index];
    *label = clip.label;
    samples.clear();
    if (clip.path.empty()) {
      return absl::OkStatus();
    }
    const absl::Status status = ReadWav(Path(index), front_end_->settings().sample_rate,
                                        front_end_->settings().clip_samples, samples);
    if (status.ok()) {
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(bad_->Note(clip.path, status, log_));
  }
  return absl::DataLossError(fmt::format("{}: not one clip can be read", data_dir_));
}

absl::Status SpeechDataset::MakePcm(int64_t index, int64_t draw, std::vector<int16_t>& samples,
                                    std::span<float> pcm, int32_t* label) const {
  CHECK(index >= 0 && index < size());
  RETURN_IF_ERROR(CheckAhead());
  RETURN_IF_ERROR(ReadGood(index, samples, label));
  const Draw d = DrawSample(seed_, split_, index, draw, *label == kSilence, augment_);
  Place(samples, d.shift, pcm);
  if (!noise_->empty() && d.volume > 0) {
    Mix(noise_->Pick(split_, d.which, d.where), d.volume, pcm);
  }
  return absl::OkStatus();
}

absl::Status SpeechDataset::GetPcm(int64_t index, int64_t draw, std::span<float> pcm,
                                   int32_t* label) const {
  Lease work(*this);
  return MakePcm(index, draw, work->samples, pcm, label);
}

absl::Status SpeechDataset::Get(int64_t index, int64_t draw, std::span<float> input,
                                int32_t* label) const {
  Lease work(*this);
  work->pcm.resize(front_end_->settings().clip_samples);
  RETURN_IF_ERROR(MakePcm(index, draw, work->samples, work->pcm, label));
  front_end_->Compute(work->pcm, work->scratch, input);
  return absl::OkStatus();
}

}  // namespace muster::worker
