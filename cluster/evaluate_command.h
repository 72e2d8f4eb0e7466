// The command line of `launch evaluate`. Free functions: thread-safe.
#pragma once

#include "cluster/command.h"

namespace muster::cluster {

// launch evaluate --job-dir D [--split S] [-- the module's flags]: accuracy and confusion matrix of
// a job's newest checkpoint on a split of the job's data, or of other data that the module's flags
// name. Words that make no sense, and data that is not there, are told on context.err (exit code
// 2).
int RunEvaluateCommand(const CommandContext& context);

}  // namespace muster::cluster
