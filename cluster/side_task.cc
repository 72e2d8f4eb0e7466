#include "cluster/side_task.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "telemetry/file.h"

namespace muster::cluster {
namespace {

constexpr unsigned kFirstFd = 3;  // after the standard ones

// Another's way to a host must not stay open because of a copy here.
void CloseAllBut(std::vector<int> keep) {
  std::ranges::sort(keep);
  unsigned from = kFirstFd;
  for (const int fd : keep) {
    const auto kept = static_cast<unsigned>(fd);
    if (kept > from) (void)syscall(SYS_close_range, from, kept - 1, 0);
    from = std::max(from, kept + 1);
  }
  (void)syscall(SYS_close_range, from, ~0U, 0);
}

[[noreturn]] void RunChild(const std::function<void(const SideTask::Tell&)>& work, int fd,
                           std::vector<int> keep, pid_t maker) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != maker) _exit(1);
  setpgid(0, 0);  // Ctrl-C is the maker's
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::signal(signal, SIG_DFL);
  keep.push_back(fd);
  CloseAllBut(std::move(keep));
  work([fd](const std::string& line) {
    if (!WriteAll(fd, line + "\n", "a pipe").ok()) _exit(1);
  });
  _exit(0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SideTask>> SideTask::Start(
    const std::function<void(const Tell& tell)>& work, const std::vector<int>& keep) {
  int pipe[2];
  if (pipe2(pipe, O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make a pipe");
  const pid_t maker = getpid(), child = fork();
  if (child == 0) RunChild(work, pipe[1], keep, maker);
  const int error = errno;
  close(pipe[1]);
  if (child < 0) {
    close(pipe[0]);
    return ErrnoStatus(error, "cannot make another process");
  }
  fcntl(pipe[0], F_SETFL, O_NONBLOCK);
  return std::unique_ptr<SideTask>(new SideTask(child, pipe[0]));
}

SideTask::~SideTask() {
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  close(fd_);
}

bool SideTask::Read(const std::function<void(const std::string& line)>& on_line) {
  char buffer[4096];
  for (;;) {
    const ssize_t n = read(fd_, buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 && errno == EAGAIN;
    rest_.append(buffer, static_cast<size_t>(n));
    for (size_t end; (end = rest_.find('\n')) != std::string::npos;) {
      const std::string line = rest_.substr(0, end);
      rest_.erase(0, end + 1);
      on_line(line);
    }
  }
}

}  // namespace muster::cluster
