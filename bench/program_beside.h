// Other programs of this build, for benchmarks that run them. Free functions, thread-safe.
#pragma once

#include <string>
#include <vector>

namespace muster::bench {

// The path of `name`, a program in this one's folder.
std::string ProgramBeside(const std::string& name);

// Ends this program, naming what failed.
[[noreturn]] void DieOf(const std::vector<std::string>& args);

}  // namespace muster::bench
