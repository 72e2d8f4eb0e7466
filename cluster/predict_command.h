// The command line of `launch predict`. Free functions: thread-safe.
#pragma once

#include "cluster/command.h"

namespace muster::cluster {

// launch predict --job-dir D FILE…: reads the words and hands over to RunPredict
// (cluster/predict.h). Words that make no sense are told on context.err (exit code 2).
int RunPredictCommand(const CommandContext& context);

}  // namespace muster::cluster
