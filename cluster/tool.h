// Runs another program to its end: ssh, tar, a cloud's command line. Not through a shell: words are
// passed as they are.
//
// Called by the launcher's main thread (cluster/process.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

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

// The value of `name` in a list of "NAME=value"; "" when it is not there.
std::string Variable(const std::vector<std::string>& environment, const std::string& name);

// The path of the program `name`; "" when there is none.
std::string FindProgram(const std::string& name, const std::string& path_variable);

}  // namespace muster::cluster
