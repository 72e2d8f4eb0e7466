#include "rpc/idle_cores.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>

#include "telemetry/cores.h"

namespace muster::rpc {
namespace {

constexpr std::chrono::milliseconds kLookAgain(10);

}  // namespace

IdleCores::IdleCores() : fd_(open("/proc/loadavg", O_RDONLY | O_CLOEXEC)), cores_(UsableCores()) {}

IdleCores::~IdleCores() {
  if (fd_ >= 0) close(fd_);
}

bool IdleCores::Any(std::chrono::steady_clock::time_point now) {
  if (now < next_look_) return any_;
  next_look_ = now + kLookAgain;
  char text[128];
  const ssize_t size = fd_ < 0 ? -1 : pread(fd_, text, sizeof(text), 0);
  const int runnable =
      size <= 0 ? -1 : RunnableThreads(std::string_view(text, static_cast<size_t>(size)));
  any_ = runnable >= 0 && runnable <= cores_;
  return any_;
}

int RunnableThreads(std::string_view loadavg) {
  // "0.41 1.99 3.03 2/345 6789": three averages, runnable/all, the newest process.
  for (int i = 0; i < 3; ++i) {
    const size_t space = loadavg.find(' ');
    if (space == std::string_view::npos) return -1;
    loadavg.remove_prefix(space + 1);
  }
  int runnable = -1;
  const auto [end, error] =
      std::from_chars(loadavg.data(), loadavg.data() + loadavg.size(), runnable);
  if (error != std::errc() || end == loadavg.data() + loadavg.size() || *end != '/') return -1;
  return runnable;
}

}  // namespace muster::rpc
