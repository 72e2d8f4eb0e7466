#include <errno.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "telemetry/quiet_program.h"
#include "worker/modules/speech_commands/maker/engine.h"
#include "worker/modules/speech_commands/maker/sound.h"
#include "worker/modules/speech_commands/wav.h"

namespace muster::worker {
namespace {

constexpr int64_t kLongest = 10 * kMadeRate;  // samples
// Hz: the voices' own means of pitch, around which the plan varies.
double MeanPitch(const std::string& voice) { return voice == "slt" ? 180 : 110; }

absl::Status Run(const std::vector<std::string>& args) {
  const int state = RunQuietly(args);
  if (state == -1) {
    return absl::NotFoundError(fmt::format("{} cannot be run ({}); install the package {}", args[0],
                                           std::strerror(errno), args[0]));
  }
  if (!WIFEXITED(state) || WEXITSTATUS(state) != 0) {
    return absl::InternalError(fmt::format("{} failed (wait status {})", args[0], state));
  }
  return absl::OkStatus();
}

class FliteEngine : public Engine {
 public:
  explicit FliteEngine(std::string scratch) : scratch_(std::move(scratch)) {}
  std::string name() const override { return "flite"; }
  std::vector<Voice> voices() const override { return FliteVoices(); }

  absl::StatusOr<std::vector<float>> Speak(const ClipPlan& plan) override {
    const double hz = MeanPitch(plan.voice.accent) * (0.7 + 0.6 * plan.pitch);
    const std::string wav = fmt::format("{}.{}", scratch_, getpid());
    RETURN_IF_ERROR(
        Run({"flite", "-voice", plan.voice.accent, "--setf",
             fmt::format("duration_stretch={:.3f}", 1 / plan.speed), "--setf",
             fmt::format("int_f0_target_mean={:.1f}", hz), "-t", plan.word, "-o", wav}));
    std::vector<int16_t> samples;
    const absl::Status status = ReadWav(wav, kMadeRate, kLongest, samples);
    unlink(wav.c_str());
    RETURN_IF_ERROR(status);
    std::vector<float> word;
    for (const int16_t v : samples) word.push_back(static_cast<float>(v) / 32768.0F);
    return word;
  }

 private:
  const std::string scratch_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> MakeFliteEngine(std::string scratch) {
  RETURN_IF_ERROR(Run({"flite", "-lv"}));
  return std::make_unique<FliteEngine>(std::move(scratch));
}

}  // namespace muster::worker
