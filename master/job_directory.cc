#include "master/job_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::master {
namespace {

namespace fs = std::filesystem;

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (!error && access(path.c_str(), W_OK | X_OK) == 0) return absl::OkStatus();
  const int cause = error ? error.value() : errno;
  struct stat info {};
  if (stat(path.c_str(), &info) == 0 && !S_ISDIR(info.st_mode)) {
    return absl::InvalidArgumentError(fmt::format(
        "cannot use {} as a folder: it is a file; move it away or choose another --job-dir", path));
  }
  return ErrnoStatus(
      cause,
      fmt::format("cannot use {} as a folder of the job directory (another: --job-dir)", path));
}

// "process 1234 on host h since 2026-…" from the text of a lock file.
std::string Holder(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok() || text->empty()) return "another process";
  std::string line = *text;
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

// Somebody who only looks whether it is held does so for a moment.
bool LockSoon(int fd) {
  for (int i = 0; i < 10; ++i) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK) return false;
    usleep(10'000);
  }
  errno = EWOULDBLOCK;
  return false;
}

}  // namespace

std::string JobDirectory::log(const std::string& role, int index) const {
  return fmt::format("{}/{}-{}.log", logs(), role, index);
}

std::string JobDirectory::checkpoint(int64_t step) const {
  return fmt::format("{}/step-{}", checkpoints(), step);
}

absl::Status CreateJobDirectory(const JobDirectory& dir) {
  for (const std::string& folder :
       {dir.root(), dir.logs(), dir.checkpoints(), dir.summaries(), dir.export_dir()}) {
    RETURN_IF_ERROR(MakeFolder(folder));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<JobLock>> JobLock::Take(const JobDirectory& dir, int64_t now_ms) {
  const std::string path = dir.lock();
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return ErrnoStatus(errno, fmt::format("cannot open {}", path));
  std::unique_ptr<JobLock> lock(new JobLock(fd));
  if (!LockSoon(fd)) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, fmt::format("cannot lock {}", path));
    return absl::FailedPreconditionError(fmt::format(
        "the job directory {} is in use by {}; stop that run first (kill -INT its process) or "
        "choose another --job-dir",
        dir.root(), Holder(path)));
  }
  char host[256] = {};
  if (gethostname(host, sizeof(host) - 1) != 0) host[0] = '\0';
  const std::string text =
      fmt::format("process {} on host {} since {}\n", getpid(), host, FormatTime(now_ms));
  if (ftruncate(fd, 0) != 0 ||
      pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return ErrnoStatus(errno, fmt::format("cannot write {}", path));
  }
  return lock;
}

JobLock::~JobLock() { close(fd_); }

}  // namespace muster::master
