// SideTask: a function in a process of its own, for what takes time beside a loop that must not
// wait; what it tells comes line by line through a pipe.
//
// Owned by the thread that started it, which must be its process's only one: the child goes on with
// a copy of it. The child is killed with the object, and when its maker dies.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "telemetry/status.h"

namespace muster::cluster {

class SideTask {
 public:
  // Says a line, which holds no line's end, to whoever has started the task.
  using Tell = std::function<void(const std::string& line)>;

  // Runs `work` with its own copies of everything; of descriptors only those in `keep` stay open.
  static absl::StatusOr<std::unique_ptr<SideTask>> Start(
      const std::function<void(const Tell& tell)>& work, const std::vector<int>& keep = {});
  ~SideTask();
  SideTask(const SideTask&) = delete;
  SideTask& operator=(const SideTask&) = delete;

  // Readable when Read has something to tell.
  int fd() const { return fd_; }
  // Hands over what was said since. False once it has ended.
  bool Read(const std::function<void(const std::string& line)>& on_line);

 private:
  SideTask(pid_t pid, int fd) : pid_(pid), fd_(fd) {}

  const pid_t pid_;
  const int fd_;
  std::string rest_;  // of a line
};

}  // namespace muster::cluster
