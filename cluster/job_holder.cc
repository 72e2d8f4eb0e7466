#include "cluster/job_holder.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <vector>

#include "cluster/printable.h"
#include "master/job_directory.h"
#include "telemetry/file.h"
#include "telemetry/host_name.h"

namespace muster::cluster {
namespace {

constexpr size_t kMaxTextBytes = 512;

// Whether a descriptor of process `pid` is the file `info`: its number may be another's by now.
bool HasOpen(pid_t pid, const struct stat& info) {
  std::error_code error;
  for (const auto& fd :
       std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid), error)) {
    struct stat open {};
    if (stat(fd.path().c_str(), &open) == 0 && open.st_dev == info.st_dev &&
        open.st_ino == info.st_ino) {
      return true;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<JobHolder> LookAtHolder(const std::string& job_dir) {
  const std::string path = master::JobDirectory(job_dir).lock();
  // A pipe of this name would wait for its other end.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0 && errno == ENOENT) return JobHolder();
  if (fd < 0) return ErrnoStatus(errno, fmt::format("cannot open {}", path));
  JobHolder holder;
  holder.held = flock(fd, LOCK_SH | LOCK_NB) != 0;
  char buffer[kMaxTextBytes];
  const ssize_t n = pread(fd, buffer, sizeof(buffer), 0);
  close(fd);
  const std::string text(buffer, static_cast<size_t>(std::max<ssize_t>(0, n)));
  holder.text = Printable(text.substr(0, text.find('\n')));
  const std::vector<std::string> words = absl::StrSplit(holder.text, ' ');
  int pid = 0;
  if (words.size() >= 5 && words[0] == "process" && absl::SimpleAtoi(words[1], &pid) && pid > 1) {
    holder.pid = pid;
    holder.host = words[4];
  }
  return holder;
}

absl::Status SignalHolder(const std::string& job_dir, int signal) {
  ASSIGN_OR_RETURN(const JobHolder holder, LookAtHolder(job_dir));
  if (!holder.held) {
    return absl::NotFoundError(fmt::format("nobody runs the job in {}", job_dir));
  }
  if (holder.pid == 0) {
    return absl::FailedPreconditionError(
        fmt::format("{}/lock does not say which process runs the job", job_dir));
  }
  if (holder.host != HostName()) {
    return absl::FailedPreconditionError(
        fmt::format("{} runs the job: run this command on that host", holder.text));
  }
  struct stat lock {};
  if (stat(master::JobDirectory(job_dir).lock().c_str(), &lock) != 0 ||
      !HasOpen(holder.pid, lock) || kill(holder.pid, signal) != 0) {
    return absl::UnavailableError(
        fmt::format("{} is gone, and what it has left will be in a moment", holder.text));
  }
  return absl::OkStatus();
}

}  // namespace muster::cluster
