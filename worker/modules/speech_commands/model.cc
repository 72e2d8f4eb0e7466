// The module's way to its models; apart, because only this needs all of them.
#include <memory>

#include "telemetry/check.h"
#include "worker/models/models.h"
#include "worker/modules/speech_commands/module.h"

namespace muster::worker {

std::unique_ptr<Model> SpeechCommands::MakeModel(Device& device) const {
  ImageModelSettings settings;
  settings.frames = front_end_->frames();
  settings.bins = front_end_->output_size() / front_end_->frames();
  settings.classes = static_cast<int64_t>(labels().size());
  auto model = MakeImageModel(architecture_, settings, device);
  CHECK(model.ok());  // Make has checked the name and the size
  return *std::move(model);
}

}  // namespace muster::worker
