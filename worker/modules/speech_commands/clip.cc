#include "worker/modules/speech_commands/clip.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "worker/modules/speech_commands/wav.h"

namespace muster::worker {

absl::Status ReadClipFeatures(const std::string& path, const MfccFrontEnd& front_end,
                              std::span<float> features) {
  const FrontEndSettings& settings = front_end.settings();
  std::vector<int16_t> samples;
  RETURN_IF_ERROR(ReadWav(path, settings.sample_rate, settings.clip_samples, samples));
  std::vector<float> pcm(settings.clip_samples, 0.0F);
  std::transform(samples.begin(), samples.end(), pcm.begin(),
                 [](int16_t sample) { return static_cast<float>(sample) / 32768; });
  MfccFrontEnd::Scratch scratch;
  front_end.Compute(pcm, scratch, features);
  return absl::OkStatus();
}

}  // namespace muster::worker
