// Shell scripts of tests that set a machine up. Owned by the test's thread.
#pragma once

#include <array>
#include <cstdio>
#include <string>

namespace muster::e2e {

struct ShellOutput {
  int code = 0;
  std::string text;  // stdout and stderr
};

inline ShellOutput Shell(const std::string& script) {
  ShellOutput output;
  std::FILE* pipe = popen(("exec 2>&1\n" + script).c_str(), "r");
  if (pipe == nullptr) return {1, "no shell"};
  std::array<char, 4096> buffer;
  while (const size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.text.append(buffer.data(), n);
  }
  output.code = pclose(pipe);
  return output;
}

}  // namespace muster::e2e
