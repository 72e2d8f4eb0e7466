#include "cluster/lifeline.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <thread>

namespace muster::cluster {
namespace {

[[noreturn]] void Watch(int fd) {
  char byte;
  ssize_t n;
  do {
    n = read(fd, &byte, 1);
  } while (n > 0 || (n < 0 && errno == EINTR));
  if (getpgrp() == getpid()) kill(0, SIGKILL);
  kill(getpid(), SIGKILL);
  _exit(1);
}

}  // namespace

absl::Status StartLifeline(const char* fd) {
  if (fd == nullptr) return absl::OkStatus();
  int number = -1;
  const char* end = fd + std::strlen(fd);
  const auto [stop, error] = std::from_chars(fd, end, number);
  struct stat info {};
  if (error != std::errc() || stop != end || fstat(number, &info) != 0 || !S_ISFIFO(info.st_mode)) {
    return absl::InvalidArgumentError(fmt::format(
        "{}={} names no open pipe; unset it to run without a launcher", kLifelineVariable, fd));
  }
  fcntl(number, F_SETFD, FD_CLOEXEC);
  std::thread(Watch, number).detach();
  return absl::OkStatus();
}

}  // namespace muster::cluster
