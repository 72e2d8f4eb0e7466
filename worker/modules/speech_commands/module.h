// The module "speech_commands": TensorFlow's speech_commands train.py as a module of Muster, with
// its flags, defaults, models, features and split.
//
// Immutable after Make (what was scanned is kept behind a lock): thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "telemetry/mutex.h"
#include "worker/module.h"
#include "worker/modules/speech_commands/corpus.h"
#include "worker/modules/speech_commands/dataset.h"
#include "worker/modules/speech_commands/features.h"

namespace muster::worker {

struct ImageModelSettings;  // worker/models/models.h

class SpeechCommands : public Module {
 public:
  // `flags` holds every flag of SpeechCommandsModule(). Fails with everything that is wrong with
  // their values, a line for each flag.
  static absl::StatusOr<std::unique_ptr<Module>> Make(const FlagValues& flags);

  std::unique_ptr<Model> MakeModel(Device& device) const override;
  // Fails when the split has no clips although its percentage is not 0.
  absl::StatusOr<std::shared_ptr<const Dataset>> MakeDataset(Split split, uint64_t seed,
                                                             Log& log) const override;
  std::vector<std::string> labels() const override;
  // The input is PCM: [batch, clip_samples] in [−1, 1).
  absl::StatusOr<std::optional<FrontEnd>> AddFrontEnd(OnnxBuilder& onnx) const override;
  absl::Status ReadInput(const std::string& path, std::span<float> input) const override;

  const MfccFrontEnd& front_end() const { return *front_end_; }

 private:
  // What all splits share.
  struct Data {
    std::shared_ptr<const Corpus> corpus;
    std::shared_ptr<const Noise> noise;
    std::shared_ptr<BadClips> bad;
  };

  SpeechCommands() = default;
  absl::StatusOr<Data> Scan(Log& log) const;
  ImageModelSettings image() const;
  // Fails when the architecture does not take images of this size.
  absl::Status CheckModel() const;

  CorpusSettings corpus_;
  AugmentSettings augment_;
  int64_t clip_budget_ = 0;
  std::string architecture_;
  std::shared_ptr<const MfccFrontEnd> front_end_;
  mutable Mutex mu_;
  mutable Data data_ ABSL_GUARDED_BY(mu_);  // null until the first MakeDataset
};

// The module's line in the table of modules.
const ModuleType& SpeechCommandsModule();

}  // namespace muster::worker
