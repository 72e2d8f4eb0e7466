#include <espeak-ng/speak_lib.h>
#include <fmt/format.h>

#include <algorithm>

#include "worker/modules/speech_commands/maker/engine.h"
#include "worker/modules/speech_commands/maker/sound.h"

namespace muster::worker {
namespace {

constexpr double kNormalRate = 165;  // words per minute
constexpr size_t kLongestShare = 140;

// espeak hands samples to a callback, which finds its buffer through the user data of the first
// event.
int Collect(short* samples, int count, espeak_EVENT* events) {
  if (samples != nullptr && events != nullptr && events->user_data != nullptr) {
    auto& buffer = *static_cast<std::vector<float>*>(events->user_data);
    for (int i = 0; i < count; ++i) {
      buffer.push_back(static_cast<float>(samples[i]) / 32768.0F);
    }
  }
  return 0;
}

class EspeakEngine : public Engine {
 public:
  explicit EspeakEngine(int rate) : rate_(rate) {}
  ~EspeakEngine() override { espeak_Terminate(); }
  std::string name() const override { return "espeak"; }
  std::vector<Voice> voices() const override { return EspeakVoices(); }

  absl::StatusOr<std::vector<float>> Speak(const ClipPlan& plan) override {
    // The name is the language's file: "en-gb+f1" is not found, "gmw/en+f1" is.
    const std::string voice = fmt::format("gmw/{}+{}", plan.voice.accent, plan.voice.variant);
    if (const espeak_ERROR error = espeak_SetVoiceByName(voice.c_str()); error != EE_OK) {
      return absl::NotFoundError(
          fmt::format("espeak-ng has no voice {} (error {}); install espeak-ng-data 1.51", voice,
                      static_cast<int>(error)));
    }
    espeak_SetParameter(espeakRATE, static_cast<int>(kNormalRate * plan.speed), 0);
    espeak_SetParameter(espeakPITCH, static_cast<int>(100 * plan.pitch), 0);
    espeak_SetParameter(espeakRANGE, static_cast<int>(100 * plan.range), 0);
    std::vector<float> samples;
    const espeak_ERROR error = espeak_Synth(plan.word.c_str(), plan.word.size() + 1, 0,
                                            POS_CHARACTER, 0, espeakCHARS_UTF8, nullptr, &samples);
    if (error != EE_OK || samples.empty()) {
      return absl::InternalError(fmt::format("espeak-ng does not say '{}' as {} (error {})",
                                             plan.word, voice, static_cast<int>(error)));
    }
    return Resample(samples, rate_);
  }

 private:
  const int rate_;  // Hz
};

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> MakeEspeakEngine(const std::string& share) {
  // espeak-ng cuts longer paths off without a word.
  if (share.size() > kLongestShare) {
    return absl::InvalidArgumentError(fmt::format(
        "espeak-ng cannot read its data in {}: more than {} characters; move the folder", share,
        kLongestShare));
  }
  const int rate =
      espeak_Initialize(AUDIO_OUTPUT_SYNCHRONOUS, 0, share.empty() ? nullptr : share.c_str(),
                        espeakINITIALIZE_DONT_EXIT);
  if (rate <= 0) {
    return absl::NotFoundError("espeak-ng cannot start; install espeak-ng-data");
  }
  espeak_SetSynthCallback(Collect);
  return std::make_unique<EspeakEngine>(rate);
}

}  // namespace muster::worker
