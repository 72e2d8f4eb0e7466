#include "bench/program_beside.h"

#include <errno.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace muster::bench {

std::string ProgramBeside(const std::string& name) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / name;
}

void DieOf(const std::vector<std::string>& args) {
  fmt::print(stderr, "{}: {} failed\n", program_invocation_short_name, fmt::join(args, " "));
  std::exit(1);
}

}  // namespace muster::bench
