// A module for tests of the launcher: flags, no model.
#pragma once

#include "worker/module.h"

namespace muster::cluster {

// "toy": --batch_size 100, --learning_rate 0.001,0.0001, --how_many_training_steps 15000,3000,
// --eval_step_interval 400,
// --save_step_interval 100 mean fields of `training`; --words yes,no is its own and may not be
// "bad".
inline const worker::ModuleType& ToyModule() {
  using worker::Flag;
  static const worker::ModuleType toy = {
      "toy",
      {{"words", Flag::Type::kString, "yes,no", "", ""},
       {"learning_rate", Flag::Type::kString, "0.001,0.0001", "", "training.schedule.learningRate"},
       {"how_many_training_steps", Flag::Type::kString, "15000,3000", "",
        "training.schedule.steps"},
       {"eval_step_interval", Flag::Type::kInt, "400", "", "training.evaluation.interval"},
       {"save_step_interval", Flag::Type::kInt, "100", "", "training.checkpoints.interval"},
       {"batch_size", Flag::Type::kInt, "100", "", "training.batchSize"}},
      [](const worker::FlagValues& flags) -> absl::StatusOr<std::unique_ptr<worker::Module>> {
        if (flags.at("words") != "bad") return std::unique_ptr<worker::Module>();
        return absl::InvalidArgumentError("--words=bad is no list of words; write yes,no");
      }};
  return toy;
}

inline absl::StatusOr<const worker::ModuleType*> FindToy(const std::string& name) {
  if (name == "toy" || name == "toy.train") return &ToyModule();
  return absl::NotFoundError("no module is called '" + name + "'; write `toy`");
}

}  // namespace muster::cluster
