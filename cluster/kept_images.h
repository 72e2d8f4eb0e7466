// `launch image list` and `launch image delete NAME`: the images that `launch image bake` has made.
#pragma once

#include <string>
#include <vector>

#include "cluster/command.h"

namespace muster::cluster {

// `context.words` begin with list or delete. Exit code 2, after one line, for words that make no
// sense and images that are not there or not ours; 1 where the cloud fails.
int RunKeptImages(const CommandContext& context, const std::vector<std::string>& environment);

}  // namespace muster::cluster
