#include "worker/modules/speech_commands/noise.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "worker/modules/speech_commands/wav.h"

namespace muster::worker {
namespace {

// A uniform integer in [0, n) from a uniform word.
int64_t Below(uint32_t word, int64_t n) { return static_cast<int64_t>(uint64_t{word} * n >> 32); }

}  // namespace

absl::StatusOr<Noise> Noise::Load(const std::string& folder, int sample_rate, int clip_samples) {
  namespace fs = std::filesystem;
  Noise noise;
  noise.clip_samples_ = clip_samples;
  std::error_code error;
  if (!fs::exists(folder, error) && !error) {
    return noise;
  }
  std::vector<std::string> paths;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".wav") {
      paths.push_back(it->path().string());
    }
  }
  if (error) {
    return absl::ErrnoToStatus(error.value(), fmt::format("{}: cannot be listed", folder));
  }
  if (paths.empty()) {
    return absl::NotFoundError(fmt::format(
        "{}: holds no .wav file; put recordings of noise there, or remove the folder", folder));
  }
  std::sort(paths.begin(), paths.end());
  const int64_t most = std::max<int64_t>(kMaxSamples / static_cast<int64_t>(paths.size()),
                                         int64_t{2} * clip_samples);
  for (const std::string& path : paths) {
    std::vector<int16_t> samples;
    RETURN_IF_ERROR(ReadWav(path, sample_rate, most, samples));
    if (static_cast<int64_t>(samples.size()) <= clip_samples) {
      return absl::InvalidArgumentError(
          fmt::format("{}: {} samples of noise, a clip needs more than {}", path, samples.size(),
                      clip_samples));
    }
    noise.samples_.insert(noise.samples_.end(), samples.begin(), samples.end());
    noise.begin_.push_back(noise.samples_.size());
  }
  return noise;
}

std::span<const int16_t> Noise::Pick(Split split, uint32_t which, uint32_t where) const {
  const auto at = static_cast<size_t>(Below(which, static_cast<int64_t>(begin_.size()) - 1));
  const auto recording = std::span(samples_).subspan(begin_[at], begin_[at + 1] - begin_[at]);
  const int64_t size = static_cast<int64_t>(recording.size());
  const int64_t border = size - size / 5;
  int64_t begin = split == Split::kTraining ? 0 : border;
  int64_t end = split == Split::kTraining ? border : size;
  if (size / 5 <= clip_samples_) {
    begin = 0;
    end = size;
  }
  return recording.subspan(begin + Below(where, end - begin - clip_samples_ + 1), clip_samples_);
}

}  // namespace muster::worker
