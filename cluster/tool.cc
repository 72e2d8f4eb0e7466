#include "cluster/tool.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>

#include "cluster/process.h"
#include "telemetry/file.h"

namespace muster::cluster {
namespace {

// A file without a name, which is gone with its descriptor.
class Stream {
 public:
  Stream() : fd_(memfd_create("stream", MFD_CLOEXEC)) {}
  ~Stream() {
    if (fd_ >= 0) close(fd_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  int fd() const { return fd_; }
  std::string Text() const {
    struct stat info {};
    fstat(fd_, &info);
    std::string text(static_cast<size_t>(info.st_size), '\0');
    const ssize_t n = pread(fd_, text.data(), text.size(), 0);
    text.resize(static_cast<size_t>(std::max<ssize_t>(0, n)));
    return text;
  }

 private:
  const int fd_;
};

}  // namespace

std::string Variable(const std::vector<std::string>& environment, const std::string& name) {
  for (const std::string& entry : environment) {
    if (entry.starts_with(name + "=")) return entry.substr(name.size() + 1);
  }
  return "";
}

std::string FindProgram(const std::string& name, const std::string& path_variable) {
  if (name.find('/') != std::string::npos) return name;
  for (const auto folder : absl::StrSplit(path_variable, ':', absl::SkipEmpty())) {
    const std::string path =
        fmt::format("{}/{}", std::string_view(folder.data(), folder.size()), name);
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return "";
}

absl::StatusOr<ToolResult> RunTool(const std::vector<std::string>& words,
                                   const std::vector<std::string>& environment,
                                   const std::string& path_variable, int64_t timeout_ms,
                                   const std::string& input) {
  const Stream in, out, err;
  RETURN_IF_ERROR(WriteAll(in.fd(), input, "what a command reads"));
  lseek(in.fd(), 0, SEEK_SET);
  ProcessSpec spec;
  spec.name = words.front();
  spec.argv = words;
  spec.argv.front() = FindProgram(words.front(), path_variable);
  if (spec.argv.front().empty()) {
    return absl::NotFoundError(fmt::format("there is no program {} in PATH", words.front()));
  }
  spec.environment = environment;
  spec.log_path = "/dev/null";
  spec.fds = {{in.fd(), 0}, {out.fd(), 1}, {err.fd(), 2}};
  ASSIGN_OR_RETURN(const std::unique_ptr<Process> process, Process::Start(spec));
  pollfd ended{process->pidfd(), POLLIN, 0};
  if (poll(&ended, 1, static_cast<int>(timeout_ms)) == 0) {
    process->Kill();
    return absl::DeadlineExceededError(
        fmt::format("{} was not done after {} s", words.front(), timeout_ms / 1000));
  }
  const ExitStatus exit = process->Poll().value_or(ExitStatus{.code = 1});
  return ToolResult{out.Text(), err.Text(), exit.signal != 0 ? 128 + exit.signal : exit.code};
}

}  // namespace muster::cluster
