// ChildProcess: this program again, with other options. For benchmarks that need real processes:
// what fails ends the program.
//
// Owns the process; thread-compatible.
#pragma once

#include <sys/types.h>

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
  // Its first word: where it listens.
  const std::string& said() const { return said_; }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
  std::string said_;
};

}  // namespace muster::bench
