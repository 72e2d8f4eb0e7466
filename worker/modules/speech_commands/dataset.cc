#include "worker/modules/speech_commands/dataset.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "kernels/device.h"
#include "kernels/philox.h"
#include "telemetry/check.h"
#include "worker/modules/speech_commands/device_front_end.h"
#include "worker/modules/speech_commands/wav.h"

namespace muster::worker {
namespace {

constexpr int64_t kCheckedPerGet = 8;  // headers
constexpr size_t kNamed = 5;           // bad clips in the final message
constexpr float kFullScale = 32768.0F;

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
                             std::shared_ptr<BadClips> bad, Log& log, int64_t clip_budget)
    : data_dir_(std::move(data_dir)),
      split_(split),
      seed_(seed),
      augment_(augment),
      corpus_(std::move(corpus)),
      noise_(std::move(noise)),
      front_end_(std::move(front_end)),
      clips_(corpus_->clips(split)),
      bad_(std::move(bad)),
      log_(log),
      clip_budget_(clip_budget) {}

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

absl::Status SpeechDataset::ReadClip(int64_t index, std::vector<int16_t>& samples,
                                     int32_t* label) const {
  CHECK(index >= 0 && index < size());
  RETURN_IF_ERROR(CheckAhead());
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

SpeechDataset::Mixture SpeechDataset::MixtureOf(int64_t index, int64_t draw, int32_t label) const {
  const Draw d = DrawSample(seed_, split_, index, draw, label == kSilence, augment_);
  if (noise_->empty() || d.volume == 0) return {.shift = d.shift};
  return {d.shift, noise_->Pick(split_, d.which, d.where), d.volume};
}

absl::Status SpeechDataset::MakePcm(int64_t index, int64_t draw, std::vector<int16_t>& samples,
                                    std::span<float> pcm, int32_t* label) const {
  RETURN_IF_ERROR(ReadClip(index, samples, label));
  const Mixture mixture = MixtureOf(index, draw, *label);
  Place(samples, mixture.shift, pcm);
  if (mixture.volume > 0) Mix(mixture.noise, mixture.volume, pcm);
  return absl::OkStatus();
}

absl::StatusOr<bool> SpeechDataset::GetClip(int64_t index, std::span<int16_t> clip,
                                            int32_t* label) const {
  Lease work(*this);
  RETURN_IF_ERROR(ReadClip(index, work->samples, label));
  if (work->samples.empty()) return false;
  std::fill(std::copy(work->samples.begin(), work->samples.end(), clip.begin()), clip.end(), 0);
  return true;
}

absl::Status SpeechDataset::GetPcm(int64_t index, int64_t draw, std::span<float> pcm,
                                   int32_t* label) const {
  Lease work(*this);
  return MakePcm(index, draw, work->samples, pcm, label);
}

std::string SpeechDataset::Fingerprint() const {
  std::string text = fmt::format("{};", noise_->samples().size());
  for (const Corpus::Clip& clip : clips_) {
    text += clip.path;
    text += fmt::format(":{};", clip.label);
  }
  return fmt::format("{:016x}", HashName(text));
}

absl::Status SpeechDataset::Get(int64_t index, int64_t draw, std::span<float> input,
                                int32_t* label) const {
  Lease work(*this);
  work->pcm.resize(front_end_->settings().clip_samples);
  RETURN_IF_ERROR(MakePcm(index, draw, work->samples, work->pcm, label));
  front_end_->Compute(work->pcm, work->scratch, input);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<DeviceFrontEnd>> SpeechDataset::MakeDeviceFrontEnd(
    Device& device, int64_t max_batch) const {
  int64_t clips = 0;  // of all splits: all are kept, or none
  for (const Split split : {Split::kTraining, Split::kValidation, Split::kTesting}) {
    clips += static_cast<int64_t>(corpus_->clips(split).size());
  }
  const int64_t bytes = clips * front_end_->settings().clip_samples * int64_t{sizeof(int16_t)};
  absl::StatusOr<std::unique_ptr<DeviceFrontEnd>> made =
      absl::ResourceExhaustedError(fmt::format("--gpu_clips_mib is {}", clip_budget_ >> 20));
  if (bytes <= clip_budget_) made = MakeSpeechFrontEnd(*this, device, max_batch, /*keeps=*/true);
  const absl::Status kept = made.status();
  if (absl::IsResourceExhausted(kept)) {
    made = MakeSpeechFrontEnd(*this, device, max_batch, /*keeps=*/false);
  }
  if (split_ == Split::kTraining && made.ok()) {
    log_.Info("{}: {} clips, {} MiB, {} {}{}", data_dir_, clips, bytes >> 20,
              kept.ok() ? "stay in the memory of" : "go batch by batch to", device.name(),
              kept.ok() ? "" : fmt::format(" ({})", std::string(kept.message())));
  }
  return made;
}

}  // namespace muster::worker
