// StatusPipe: the pipe on which the master writes its status lines, and the launcher's reading of
// it. Owned by one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "master/status_line.h"
#include "telemetry/status.h"

namespace muster::cluster {

class StatusPipe {
 public:
  static absl::StatusOr<std::unique_ptr<StatusPipe>> Open();
  ~StatusPipe();
  StatusPipe(const StatusPipe&) = delete;
  StatusPipe& operator=(const StatusPipe&) = delete;

  int read_fd() const { return read_fd_; }    // -1 once the master has closed its end
  int write_fd() const { return write_fd_; }  // for the master's process
  void CloseWriteEnd();                       // once the master has it

  // Reads what is there without blocking, and hands over every whole line.
  void Drain(const std::function<void(const absl::StatusOr<master::StatusLine>&)>& on_line);

 private:
  StatusPipe(int read_fd, int write_fd) : read_fd_(read_fd), write_fd_(write_fd) {}

  int read_fd_, write_fd_;
  std::string partial_;
};

}  // namespace muster::cluster
