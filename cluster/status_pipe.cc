#include "cluster/status_pipe.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "telemetry/file.h"

namespace muster::cluster {

absl::StatusOr<std::unique_ptr<StatusPipe>> StatusPipe::Open() {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make a pipe");
  // Only the launcher's end: the master may block for a moment when nobody reads.
  fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return std::unique_ptr<StatusPipe>(new StatusPipe(fds[0], fds[1]));
}

StatusPipe::~StatusPipe() {
  CloseWriteEnd();
  if (read_fd_ >= 0) close(read_fd_);
}

void StatusPipe::CloseWriteEnd() {
  if (write_fd_ >= 0) close(write_fd_);
  write_fd_ = -1;
}

void StatusPipe::Drain(
    const std::function<void(const absl::StatusOr<master::StatusLine>&)>& on_line) {
  char buffer[1 << 14];
  while (read_fd_ >= 0) {
    const ssize_t n = read(read_fd_, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;
    if (n == 0) {
      close(read_fd_);
      read_fd_ = -1;
      return;
    }
    partial_.append(buffer, static_cast<size_t>(n));
    size_t begin = 0;
    for (size_t end; (end = partial_.find('\n', begin)) != std::string::npos; begin = end + 1) {
      on_line(master::DecodeStatusLine(std::string_view(partial_).substr(begin, end - begin)));
    }
    partial_.erase(0, begin);
  }
}

}  // namespace muster::cluster
