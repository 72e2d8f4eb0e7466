#include "cluster/await_hosts.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "cluster/process.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr int64_t kLookMs = 50, kAgainMs = 1'000;

struct Try {
  std::unique_ptr<Process> process;
  int stderr_fd = -1;  // in memory
  int64_t again_ms = 0;
  bool reached = false;
  std::string said;

  Try() = default;
  Try(const Try&) = delete;
  Try& operator=(const Try&) = delete;
  ~Try() {
    if (process) process->Kill();
    if (stderr_fd >= 0) close(stderr_fd);
  }
};

absl::Status Begin(const RunHost& host, Try* attempt) {
  if (attempt->stderr_fd >= 0) close(attempt->stderr_fd);
  attempt->stderr_fd = memfd_create("stderr", MFD_CLOEXEC);
  ProcessSpec spec;
  spec.name = host.link.name;
  spec.argv = host.link.argv;
  spec.argv.back() = "true";
  spec.environment = host.link.environment;
  spec.log_path = "/dev/null";
  spec.fds = {{attempt->stderr_fd, 2}};
  ASSIGN_OR_RETURN(attempt->process, Process::Start(spec));
  return absl::OkStatus();
}

std::string TextOf(int fd) {
  char bytes[4096];
  const ssize_t n = pread(fd, bytes, sizeof(bytes), 0);
  return n > 0 ? std::string(bytes, static_cast<size_t>(n)) : "";
}

}  // namespace

absl::Status AwaitHosts(const std::vector<RunHost>& hosts, int64_t timeout_ms,
                        const Patience& patience) {
  std::vector<Try> tries(hosts.size());
  const int64_t began = MonotonicMillis();
  for (;;) {
    size_t reached = 0, missing = 0;
    for (size_t i = 0; i < hosts.size(); ++i) {
      Try& attempt = tries[i];
      if (attempt.process != nullptr) {
        if (const auto exit = attempt.process->Poll()) {
          attempt.reached = exit->ok();
          attempt.said = TextOf(attempt.stderr_fd);
          attempt.process.reset();
          attempt.again_ms = MonotonicMillis() + kAgainMs;
        }
      } else if (!attempt.reached && MonotonicMillis() >= attempt.again_ms) {
        RETURN_IF_ERROR(Begin(hosts[i], &attempt));
      }
      reached += attempt.reached ? 1 : 0;
      if (!attempt.reached) missing = i;
    }
    if (reached == hosts.size()) return absl::OkStatus();
    if (MonotonicMillis() - began > timeout_ms) {
      return absl::UnavailableError(fmt::format(
          "host {} is not reached after {}: {}", hosts[missing].link.name,
          FormatDuration(timeout_ms), hosts[missing].link.explain(tries[missing].said)));
    }
    if (!patience.pause(kLookMs)) return absl::CancelledError("interrupted");
  }
}

}  // namespace muster::cluster
