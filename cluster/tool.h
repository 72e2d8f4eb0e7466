// Runs another program to its end: ssh, tar, a cloud's command line. Not through a shell: words are
// passed as they are.
//
// Called by the launcher's main thread (cluster/process.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cluster/process.h"
#include "telemetry/status.h"

namespace muster::cluster {

struct ToolResult {
  std::string out;  // its stdout
  std::string err;  // its stderr
  int code = 0;     // 128 + signal when it was killed
};

// `path_variable`: the value of PATH, where words[0] is looked for unless it holds a '/'. `input`:
// what it reads from its stdin. Fails with NotFound when there is no such program, with
// DeadlineExceeded when it takes longer than `timeout_ms`; it is killed then.
absl::StatusOr<ToolResult> RunTool(const std::vector<std::string>& words,
                                   const std::vector<std::string>& environment,
                                   const std::string& path_variable, int64_t timeout_ms,
                                   const std::string& input = "");

// A program that was started, for whoever does something else meanwhile. Killed with the object.
class StartedTool {
 public:
  // Fails with NotFound when there is no such program.
  static absl::StatusOr<std::unique_ptr<StartedTool>> Start(
      const std::vector<std::string>& words, const std::vector<std::string>& environment,
      const std::string& path_variable, const std::string& input = "");
  ~StartedTool();
  StartedTool(const StartedTool&) = delete;
  StartedTool& operator=(const StartedTool&) = delete;

  // Readable once it has ended.
  int fd() const { return process_->pidfd(); }
  // PRECONDITION: it has ended.
  ToolResult Result();

 private:
  StartedTool(int out, int err) : out_(out), err_(err) {}

  const int out_, err_;  // what it has said so far
  std::unique_ptr<Process> process_;
};

// The value of `name` in a list of "NAME=value"; "" when it is not there.
std::string Variable(const std::vector<std::string>& environment, const std::string& name);

// The path of the program `name`; "" when there is none.
std::string FindProgram(const std::string& name, const std::string& path_variable);

}  // namespace muster::cluster
