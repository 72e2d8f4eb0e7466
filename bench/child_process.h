// ChildProcess: this program again, with other options. For benchmarks that need real processes:
// what fails ends the program.
//
// Owns the process; thread-compatible.
#pragma once

#include <sys/types.h>

#include <cstdio>
#include <string>
#include <vector>

namespace muster::bench {

// This program again, with `words`; killed with the object.
class ChildProcess {
 public:
  explicit ChildProcess(std::vector<std::string> words);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  // Its first line: where it listens.
  const std::string& said();
  // Its next line; "" at its end.
  std::string Hear();
  // Writes a line to it.
  void Say(const std::string& line);
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
  std::string said_;
  std::FILE* from_ = nullptr;
  std::FILE* to_ = nullptr;
};

}  // namespace muster::bench
