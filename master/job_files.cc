#include "master/job_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "telemetry/file.h"

namespace muster::master {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUnfinished = ".coming";
constexpr int64_t kNanos = 1'000'000'000;

std::string TemporaryPath(const std::string& folder, const std::string& path) {
  return fmt::format("{}/{}{}", folder, path, kUnfinished);
}

// What belongs to the host alone.
bool Stays(const std::string& path) {
  return path == "lock" || path == "bill.json" || path.starts_with("logs/") ||
         path.ends_with(kUnfinished) || path.find(".tmp.") != std::string::npos;
}

}  // namespace

absl::StatusOr<std::map<std::string, JobFile>> ListJobFiles(const std::string& folder) {
  std::map<std::string, JobFile> files;
  std::error_code error;
  if (!fs::exists(folder, error)) return files;
  fs::recursive_directory_iterator it(folder, error), end;
  for (; !error && it != end; it.increment(error)) {
    struct stat info {};
    if (lstat(it->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    const std::string path = it->path().lexically_relative(folder).string();
    if (Stays(path)) continue;
    files[path] = {info.st_size, info.st_mtim.tv_sec * kNanos + info.st_mtim.tv_nsec};
  }
  if (error) return ErrnoStatus(error.value(), fmt::format("cannot list {}", folder));
  return files;
}

bool IsPathInside(std::string_view path) {
  if (path.empty() || path.size() > 4096 || path.find('\0') != path.npos) return false;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return true;
}

absl::StatusOr<std::string> ReadPart(const std::string& path, int64_t offset, size_t size) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return ErrnoStatus(errno, fmt::format("cannot read {}", path));
  std::string bytes(size, '\0');
  size_t have = 0;
  while (have < size) {
    const ssize_t n = pread(fd, bytes.data() + have, size - have,
                            static_cast<off_t>(offset) + static_cast<off_t>(have));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    have += static_cast<size_t>(n);
  }
  close(fd);
  bytes.resize(have);
  return bytes;
}

JobFileWriter::~JobFileWriter() {
  for (const auto& [path, fd] : open_) {
    close(fd);
    unlink(TemporaryPath(folder_, path).c_str());
  }
}

absl::Status JobFileWriter::Write(const std::string& path, std::string_view bytes, bool last,
                                  int64_t modified_ns) {
  if (!IsPathInside(path)) {
    return absl::InvalidArgumentError(fmt::format("{} is no file of a job's directory", path));
  }
  const std::string temporary = TemporaryPath(folder_, path);
  auto it = open_.find(path);
  if (it == open_.end()) {
    std::error_code error;
    fs::create_directories(fs::path(temporary).parent_path(), error);
    const int fd =
        open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return ErrnoStatus(errno, fmt::format("cannot write {}", temporary));
    it = open_.emplace(path, fd).first;
  }
  const int fd = it->second;
  absl::Status status = WriteAll(fd, bytes, temporary);
  if (status.ok() && !last) return status;
  open_.erase(it);
  if (status.ok()) {
    const timespec times[2] = {{0, UTIME_OMIT}, {modified_ns / kNanos, modified_ns % kNanos}};
    const std::string target = fmt::format("{}/{}", folder_, path);
    if (futimens(fd, times) != 0 || fsync(fd) != 0 ||
        rename(temporary.c_str(), target.c_str()) != 0) {
      status = ErrnoStatus(errno, fmt::format("cannot write {}", target));
    }
  }
  close(fd);
  if (!status.ok()) unlink(temporary.c_str());
  return status;
}

}  // namespace muster::master
