#include "cluster/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <sstream>
#include <utility>

#include "telemetry/check.h"
#include "telemetry/file.h"

namespace muster::cluster {
namespace {

constexpr int kFirstFreeFd = 64;
constexpr off_t kMaxLogBytes = off_t{64} << 20;

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

// What the child needs after fork, where nothing may be allocated.
struct ChildPlan {
  std::vector<char*> argv, environment;
  std::vector<std::pair<int, int>> fds;
  int log_fd, null_fd, error_fd;
  pid_t launcher;
};

[[noreturn]] void Give(int error_fd) {
  const int error = errno;
  if (write(error_fd, &error, sizeof(error)) < 0) _exit(126);
  _exit(127);
}

void ResetSignals() {
  for (int signal = 1; signal < NSIG; ++signal) {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    // Some numbers cannot be set; they have their default anyway.
    (void)sigaction(signal, &action, nullptr);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void RunChild(ChildPlan& plan) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) Give(plan.error_fd);
  // The launcher may have died before the line above.
  if (getppid() != plan.launcher) _exit(1);
  if (setpgid(0, 0) != 0) Give(plan.error_fd);
  // Descriptors that came from whoever started the launcher end here too. A kernel without the call
  // keeps those.
  (void)syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
  // Sources move out of the way first: one's target may be another's source. error_fd too.
  plan.error_fd = fcntl(plan.error_fd, F_DUPFD_CLOEXEC, kFirstFreeFd);
  for (auto& [from, to] : plan.fds) {
    from = fcntl(from, F_DUPFD_CLOEXEC, kFirstFreeFd);
    if (from < 0) Give(plan.error_fd);
  }
  if (dup2(plan.null_fd, 0) < 0 || dup2(plan.log_fd, 1) < 0 || dup2(plan.log_fd, 2) < 0) {
    Give(plan.error_fd);
  }
  for (const auto& [from, to] : plan.fds) {
    if (dup2(from, to) < 0) Give(plan.error_fd);
  }
  ResetSignals();
  execve(plan.argv[0], plan.argv.data(), plan.environment.data());
  Give(plan.error_fd);
}

// Moves a log that has grown large aside, so that a job directory's logs stay bounded over many
// resumes.
void Rotate(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && info.st_size > kMaxLogBytes) {
    (void)rename(path.c_str(), (path + ".1").c_str());
  }
}

class ScopedFd {
 public:
  explicit ScopedFd(int fd) : fd_(fd) {}
  ~ScopedFd() { Reset(); }
  ScopedFd(const ScopedFd&) = delete;
  ScopedFd& operator=(const ScopedFd&) = delete;
  int get() const { return fd_; }
  void Reset() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }

 private:
  int fd_;
};

// errno of the failed start, or 0 when the program runs: the pipe closes on exec.
int ReadStartError(int fd) {
  int error = 0;
  ssize_t n;
  do {
    n = read(fd, &error, sizeof(error));
  } while (n < 0 && errno == EINTR);
  return n == sizeof(error) ? error : 0;
}

}  // namespace

bool EndedFromOutside(const ExitStatus& status) {
  return status.signal == SIGKILL || status.signal == SIGTERM || status.signal == SIGINT ||
         status.signal == SIGHUP;
}

std::string DescribeExit(const ExitStatus& status) {
  if (status.signal != 0) {
    return fmt::format("was killed by signal {} ({})", status.signal, strsignal(status.signal));
  }
  return fmt::format("exited with code {}", status.code);
}

absl::StatusOr<std::unique_ptr<Process>> Process::Start(const ProcessSpec& spec) {
  Rotate(spec.log_path);
  const ScopedFd log(open(spec.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (log.get() < 0) return ErrnoStatus(errno, fmt::format("cannot open {}", spec.log_path));
  const off_t log_start = lseek(log.get(), 0, SEEK_END);
  const ScopedFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  int error_pipe[2];
  if (null.get() < 0 || pipe2(error_pipe, O_CLOEXEC) != 0) {
    return ErrnoStatus(errno, fmt::format("cannot start {}", spec.name));
  }
  const ScopedFd error_read(error_pipe[0]);
  ScopedFd error_write(error_pipe[1]);
  ChildPlan plan{Pointers(spec.argv), Pointers(spec.environment), spec.fds, log.get(),
                 null.get(),          error_write.get(),          getpid()};

  const pid_t pid = fork();
  if (pid < 0) return ErrnoStatus(errno, fmt::format("cannot start {}", spec.name));
  if (pid == 0) RunChild(plan);
  error_write.Reset();
  const int error = ReadStartError(error_read.get());
  if (error != 0) {
    waitpid(pid, nullptr, 0);
    return ErrnoStatus(error, fmt::format("cannot start {}: {}", spec.name, spec.argv.front()));
  }
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (pidfd < 0) {
    const absl::Status status = ErrnoStatus(errno, fmt::format("cannot watch {}", spec.name));
    kill(pid, SIGKILL);
    waitpid(pid, nullptr, 0);
    return status;
  }
  return std::unique_ptr<Process>(new Process(spec.name, spec.log_path, log_start, pid, pidfd));
}

Process::~Process() {
  if (running()) {
    Kill();
    siginfo_t info;
    while (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT) != 0 &&
           errno == EINTR) {
    }
    Poll();
  }
  close(pidfd_);
}

std::optional<ProcessActivity> Process::Activity() const {
  const auto text = ReadFile(fmt::format("/proc/{}/stat", pid_));
  if (!text.ok()) return std::nullopt;
  // After the program's name, which may hold anything: state, then ten fields, utime, stime.
  const size_t name_end = text->rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text->substr(name_end + 1));
  char state = 0;
  std::string skipped;
  int64_t user = 0, system = 0;
  fields >> state;
  for (int i = 0; i < 10; ++i) fields >> skipped;
  fields >> user >> system;
  if (!fields) return std::nullopt;
  return ProcessActivity{user + system, state == 'S' || state == 'T'};
}

std::optional<ExitStatus> Process::Poll() {
  if (exit_.has_value()) return exit_;
  siginfo_t info{};
  // Not reaped yet, so the pid is still ours and its group can be named safely.
  if (waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 ||
      info.si_pid != pid_) {
    return std::nullopt;
  }
  kill(-pid_, SIGKILL);
  CHECK_EQ(waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED), 0);
  ExitStatus status;
  if (info.si_code == CLD_EXITED) {
    status.code = info.si_status;
  } else {
    status.signal = info.si_status;
  }
  exit_ = status;
  return exit_;
}

void Process::Signal(int signal) {
  if (running()) kill(pid_, signal);
}

void Process::Kill() {
  if (!running()) return;
  kill(-pid_, SIGKILL);
  kill(pid_, SIGKILL);
}

std::vector<std::string> LastLines(const std::string& path, off_t start, int lines) {
  const ScopedFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return {};
  constexpr off_t kMaxBytes = 64 << 10;
  const off_t end = lseek(fd.get(), 0, SEEK_END);
  // A file that has been replaced by a shorter one is read from its beginning.
  const off_t begin = std::max(start <= end ? start : 0, end - kMaxBytes);
  std::string text(static_cast<size_t>(end - begin), '\0');
  const ssize_t n = pread(fd.get(), text.data(), text.size(), begin);
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, n)));
  std::vector<std::string> all;
  size_t at = 0;
  while (at < text.size()) {
    const size_t stop = std::min(text.find('\n', at), text.size());
    if (stop > at) all.push_back(text.substr(at, stop - at));
    at = stop + 1;
  }
  const size_t keep = std::min(all.size(), static_cast<size_t>(lines));
  return {all.end() - static_cast<ptrdiff_t>(keep), all.end()};
}

}  // namespace muster::cluster
