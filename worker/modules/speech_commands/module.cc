#include "worker/modules/speech_commands/module.h"

#include <fmt/format.h>

#include <utility>

#include "worker/modules/speech_commands/clip.h"
#include "worker/modules/speech_commands/flags.h"
#include "worker/modules/speech_commands/front_end_onnx.h"

namespace muster::worker {

absl::StatusOr<std::unique_ptr<Module>> SpeechCommands::Make(const FlagValues& flags) {
  ASSIGN_OR_RETURN(SpeechSettings settings, SpeechSettingsFrom(flags));
  ASSIGN_OR_RETURN(MfccFrontEnd front_end, MfccFrontEnd::Make(settings.front_end));
  std::unique_ptr<SpeechCommands> module(new SpeechCommands);
  module->corpus_ = std::move(settings.corpus);
  module->augment_ = settings.augment;
  module->clip_budget_ = settings.clip_budget;
  module->architecture_ = std::move(settings.architecture);
  module->front_end_ = std::make_shared<const MfccFrontEnd>(std::move(front_end));
  RETURN_IF_ERROR(module->CheckModel());
  return module;
}

absl::StatusOr<SpeechCommands::Data> SpeechCommands::Scan(Log& log) const {
  MutexLock lock(mu_);
  if (data_.corpus == nullptr) {
    const std::string noise_folder = corpus_.data_dir + "/" + kNoiseFolder;
    const FrontEndSettings& s = front_end_->settings();
    ASSIGN_OR_RETURN(Corpus corpus, Corpus::Scan(corpus_));
    ASSIGN_OR_RETURN(Noise noise, Noise::Load(noise_folder, s.sample_rate, s.clip_samples));
    if (noise.empty()) {
      log.Warning("{}: no such folder: no noise is mixed in, and silence is all zeros",
                  noise_folder);
    }
    data_ = {std::make_shared<const Corpus>(std::move(corpus)),
             std::make_shared<const Noise>(std::move(noise)), nullptr};
    data_.bad = std::make_shared<BadClips>(corpus_.data_dir, data_.corpus->num_files());
  }
  return data_;
}

absl::StatusOr<std::shared_ptr<const Dataset>> SpeechCommands::MakeDataset(Split split,
                                                                           uint64_t seed,
                                                                           Log& log) const {
  ASSIGN_OR_RETURN(const Data data, Scan(log));
  const double percentage = split == Split::kValidation ? corpus_.validation_percentage
                            : split == Split::kTesting
                                ? corpus_.testing_percentage
                                : 100 - corpus_.validation_percentage - corpus_.testing_percentage;
  if (data.corpus->clips(split).empty() && (percentage > 0 || split == Split::kTraining)) {
    return absl::FailedPreconditionError(fmt::format(
        "{}: no speaker falls into the {} split ({} % of them, by the hash of their names); add "
        "clips of more speakers, or change --validation_percentage and --testing_percentage",
        corpus_.data_dir, SplitName(split), percentage));
  }
  return std::make_shared<const SpeechDataset>(corpus_.data_dir, split, seed, augment_, data.corpus,
                                               data.noise, front_end_, data.bad, log, clip_budget_);
}

std::vector<std::string> SpeechCommands::labels() const {
  std::vector<std::string> labels = {"_silence_", "_unknown_"};
  labels.insert(labels.end(), corpus_.wanted_words.begin(), corpus_.wanted_words.end());
  return labels;
}

absl::StatusOr<std::optional<FrontEnd>> SpeechCommands::AddFrontEnd(OnnxBuilder& onnx) const {
  return MakePcmFrontEnd(*front_end_, onnx);
}

absl::Status SpeechCommands::ReadInput(const std::string& path, std::span<float> input) const {
  return ReadClipFeatures(path, *front_end_, input);
}

const ModuleType& SpeechCommandsModule() {
  static const ModuleType type = {
      .name = "speech_commands", .flags = SpeechFlags(), .make = &SpeechCommands::Make};
  return type;
}

}  // namespace muster::worker
