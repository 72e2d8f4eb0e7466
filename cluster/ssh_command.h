// The command line of `launch ssh`. Free functions: thread-safe.
#pragma once

#include <string>
#include <vector>

#include "cluster/command.h"

namespace muster::cluster {

struct SshCommandOptions {
  std::string registry;                  // the folder of cluster/job_registry.h
  std::string machines;                  // of journals and keys
  std::vector<std::string> environment;  // of the command
};

// launch ssh JOB ROLE [-L FORWARD]... [-- COMMAND...]: becomes the user's ssh, kubectl or srun to
// the machine of a job's role. Returns only where that cannot be: exit code 2, after one line on
// context.err.
int RunSshCommand(const CommandContext& context, const SshCommandOptions& options);

}  // namespace muster::cluster
