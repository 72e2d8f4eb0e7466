#include "cluster/tool.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "telemetry/file.h"

namespace muster::cluster {
namespace {

// A file without a name, which is gone with its descriptor.
int MakeStream() { return memfd_create("stream", MFD_CLOEXEC); }

std::string TextOf(int fd) {
  struct stat info {};
  fstat(fd, &info);
  std::string text(static_cast<size_t>(info.st_size), '\0');
  const ssize_t n = pread(fd, text.data(), text.size(), 0);
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, n)));
  return text;
}

absl::Status WriteInput(int fd, const std::string& input) {
  RETURN_IF_ERROR(WriteAll(fd, input, "what a command reads"));
  lseek(fd, 0, SEEK_SET);
  return absl::OkStatus();
}

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

absl::StatusOr<std::unique_ptr<StartedTool>> StartedTool::Start(
    const std::vector<std::string>& words, const std::vector<std::string>& environment,
    const std::string& path_variable, const std::string& input) {
  ProcessSpec spec;
  spec.name = words.front();
  spec.argv = words;
  spec.argv.front() = FindProgram(words.front(), path_variable);
  if (spec.argv.front().empty()) {
    return absl::NotFoundError(fmt::format("there is no program {} in PATH", words.front()));
  }
  const int in = MakeStream();
  std::unique_ptr<StartedTool> tool(new StartedTool(MakeStream(), MakeStream()));
  spec.environment = environment;
  spec.log_path = "/dev/null";
  spec.fds = {{in, 0}, {tool->out_, 1}, {tool->err_, 2}};
  absl::Status started = WriteInput(in, input);
  if (started.ok()) {
    auto process = Process::Start(spec);
    started = process.status();
    if (process.ok()) tool->process_ = *std::move(process);
  }
  close(in);
  RETURN_IF_ERROR(started);
  return tool;
}

StartedTool::~StartedTool() {
  for (const int fd : {out_, err_}) {
    if (fd >= 0) close(fd);
  }
}

ToolResult StartedTool::Result() {
  const ExitStatus exit = process_->Poll().value_or(ExitStatus{.code = 1});
  return ToolResult{TextOf(out_), TextOf(err_), exit.signal != 0 ? 128 + exit.signal : exit.code};
}

absl::StatusOr<ToolResult> RunTool(const std::vector<std::string>& words,
                                   const std::vector<std::string>& environment,
                                   const std::string& path_variable, int64_t timeout_ms,
                                   const std::string& input) {
  ASSIGN_OR_RETURN(const std::unique_ptr<StartedTool> tool,
                   StartedTool::Start(words, environment, path_variable, input));
  pollfd ended{tool->fd(), POLLIN, 0};
  if (poll(&ended, 1, static_cast<int>(timeout_ms)) == 0) {
    return absl::DeadlineExceededError(
        fmt::format("{} was not done after {} s", words.front(), timeout_ms / 1000));
  }
  return tool->Result();
}

}  // namespace muster::cluster
