// `launch gc`: finds machines that carry Muster's tag and belong to no living launch, and gives
// them back: those of journals that nobody holds, and those that the providers of journals (or of a
// job file) list for this user without a journal. Machines that were stopped on request stay until
// their job is named.
#pragma once

#include <string>
#include <vector>

#include "cluster/command.h"

namespace muster::cluster {

struct GcOptions {
  std::string folder;  // of journals: ~/.muster/machines
  std::string owner;   // "user@host", as machines are tagged
  std::vector<std::string> environment;
};

// Returns 0 when nothing is left, 1 when something is or may be.
int RunGcCommand(const CommandContext& context, const GcOptions& options);

}  // namespace muster::cluster
