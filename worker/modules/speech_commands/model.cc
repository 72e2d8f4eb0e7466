// The module's way to its models; apart, because only this needs all of them.
#include <memory>

#include "telemetry/check.h"
#include "worker/models/models.h"
#include "worker/modules/speech_commands/module.h"

namespace muster::worker {

ImageModelSettings SpeechCommands::image() const {
  return {.frames = front_end_->frames(),
          .bins = front_end_->settings().coefficients,
          .classes = static_cast<int64_t>(labels().size())};
}

absl::Status SpeechCommands::CheckModel() const {
  const std::unique_ptr<Device> device = MakeCpuDevice(1);
  return MakeImageModel(architecture_, image(), *device).status();
}

std::unique_ptr<Model> SpeechCommands::MakeModel(Device& device) const {
  auto model = MakeImageModel(architecture_, image(), device);
  CHECK(model.ok());  // Make has called CheckModel
  return *std::move(model);
}

}  // namespace muster::worker
