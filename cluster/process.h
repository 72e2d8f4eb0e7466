// Process: a child of the launcher that never outlives it.
//
// Owned by one thread, which must be the launcher's main thread: the kernel's parent-death signal
// fires when the *thread* that forked ends. Besides that signal a child may hold a lifeline
// (cluster/lifeline.h). Each child leads its own process group, so that the terminal's Ctrl-C
// reaches the launcher alone, and so that whatever the child itself has started dies with it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "telemetry/status.h"

namespace muster::cluster {

struct ExitStatus {
  int code = 0;    // when signal is 0
  int signal = 0;  // that killed it
  bool ok() const { return code == 0 && signal == 0; }
};

// Something outside of the process ended it: no fault of its own, which would come again.
bool EndedFromOutside(const ExitStatus& status);

// "exited with code 3", "was killed by signal 9 (Killed)".
std::string DescribeExit(const ExitStatus& status);

struct ProcessActivity {
  int64_t cpu_ticks = 0;  // processor time of all its threads
  bool asleep = false;    // its first thread waits for an event, or is stopped (not by a debugger)
  bool operator==(const ProcessActivity&) const = default;
};

struct ProcessSpec {
  std::string name;                      // "worker-2", for messages
  std::vector<std::string> argv;         // [0]: path of the program
  std::vector<std::string> environment;  // the whole of it: "NAME=value"
  std::string log_path;                  // stdout and stderr are appended; stdin is /dev/null
  std::vector<std::pair<int, int>>
      fds;  // ours → its number in the child (3 … 60); all others are closed on exec
};

class Process {
 public:
  // Starts the program. Fails when the log cannot be opened or the program cannot be executed,
  // naming it.
  static absl::StatusOr<std::unique_ptr<Process>> Start(const ProcessSpec& spec);
  // Kills the child, if it still lives, and waits for it.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  const std::string& name() const { return name_; }
  pid_t pid() const { return pid_; }
  const std::string& log_path() const { return log_path_; }
  // Size of the log when the child was started: what it says begins there.
  off_t log_start() const { return log_start_; }
  // Readable once the child has ended.
  int pidfd() const { return pidfd_; }

  // What it has done so far; nullopt when the kernel does not say.
  std::optional<ProcessActivity> Activity() const;

  // How it ended; nullopt while it lives. The first answer also kills what is left of its process
  // group.
  std::optional<ExitStatus> Poll();
  bool running() const { return !exit_.has_value(); }

  // Sends `signal` to the child alone; nothing once it has ended.
  void Signal(int signal);
  // SIGKILL to the child and its process group.
  void Kill();

 private:
  Process(std::string name, std::string log_path, off_t log_start, pid_t pid, int pidfd)
      : name_(std::move(name)),
        log_path_(std::move(log_path)),
        log_start_(log_start),
        pid_(pid),
        pidfd_(pidfd) {}

  const std::string name_;
  const std::string log_path_;
  const off_t log_start_;
  const pid_t pid_;
  const int pidfd_;
  std::optional<ExitStatus> exit_;
};

// The last `lines` lines that were written to the file at `path` from offset `start` on (64 KiB at
// most); empty when it cannot be read.
std::vector<std::string> LastLines(const std::string& path, off_t start, int lines);

}  // namespace muster::cluster
