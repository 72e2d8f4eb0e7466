// Knobs: a module's flags that mean a field of `training:`. Free functions: thread-safe.
//
// A module names such a field in Flag::alias. Two aliases name columns of a list:
// "training.schedule.learningRate" and "training.schedule.steps" take comma-separated values, one
// for each stage. A knob may be given as a flag or in the file; both and different is a problem
// that names both places; neither gives the module's default.
#pragma once

#include "configs/job_yaml.h"
#include "worker/module.h"

namespace muster::cluster {

// Moves the values of aliased flags into `draft->job`. `parsed` is ParseModuleFlags of
// trainingInput.args.
void MoveKnobs(const worker::ModuleType& module, const worker::ParsedFlags& parsed,
               JobDraft* draft);

}  // namespace muster::cluster
