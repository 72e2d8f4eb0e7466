// Runs other programs of this build, whose output nobody needs, for benchmarks. Free functions,
// thread-safe.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace muster::bench {

// The path of `name`, a program in this one's folder.
std::string ProgramBeside(const std::string& name);

// Starts args[0] with its arguments, without a word on stdout; -1 when that cannot be.
pid_t StartQuietly(std::vector<std::string> args);
// And waits for it: its status as waitpid's, -1 when it could not be started.
int RunQuietly(std::vector<std::string> args);

// Ends this program, naming what failed.
[[noreturn]] void DieOf(const std::vector<std::string>& args);

}  // namespace muster::bench
