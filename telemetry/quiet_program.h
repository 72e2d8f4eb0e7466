// Runs other programs whose output nobody needs. Free functions, thread-safe.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace muster {

// Starts args[0], looked up in PATH unless it has a slash, with its arguments and without a word on
// stdout; -1 and errno when that cannot be.
pid_t StartQuietly(std::vector<std::string> args);
// And waits for it: its status as waitpid's, -1 and errno when it could not be started.
int RunQuietly(std::vector<std::string> args);

}  // namespace muster
