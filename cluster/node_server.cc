#include "cluster/node_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <deque>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "cluster/local_processes.h"
#include "cluster/node.pb.h"
#include "cluster/node_wire.h"
#include "master/job_directory.h"
#include "master/job_files.h"
#include "telemetry/cores.h"
#include "telemetry/host_name.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

using master::JobDirectory;
using master::JobLock;

// How long what a role has written to its log may wait here.
constexpr int kLogPauseMs = 50;
constexpr int64_t kActivityPauseMs = 500;

// The folder must be ours and nobody else's to write: on a host with other users somebody else may
// have made it.
absl::Status CheckOwned(const std::string& folder) {
  struct stat info {};
  if (lstat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid() ||
      (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return absl::FailedPreconditionError(
        fmt::format("{} is not a folder that only this user can write: remove it, or name another "
                    "in cluster.ssh.directory",
                    folder));
  }
  return absl::OkStatus();
}

class NodeServer : RoleProcesses::Listener {
 public:
  NodeServer(const NodeOptions& options, LocalProcesses& processes)
      : options_(options), processes_(processes), heard_ms_(MonotonicMillis()) {}

  int Run() {
    SendHello();
    while (!gone_) {
      std::vector<pollfd> fds = {{options_.in_fd, POLLIN, 0}};
      processes_.Watch(&fds);
      const int pause = !outgoing_.empty() ? 0 : logs_.empty() ? 1000 : kLogPauseMs;
      poll(fds.data(), fds.size(), pause);
      if (fds[0].revents != 0 && !Hear()) break;
      if (MonotonicMillis() - heard_ms_ > options_.silence_ms) break;
      processes_.Collect(*this);
      SendLogs();
      SendFilePart();
    }
    return understood_ ? 0 : 2;
  }

 private:
  struct LogTail {
    std::string path;
    int64_t offset = 0;
  };
  struct Outgoing {
    std::string path;  // relative
    int64_t offset = 0;
    int64_t modified_ns = 0;
  };

  // False when the launcher is gone, or not to be understood.
  bool Hear() {
    const auto state = reader_.Read(options_.in_fd, [this](std::string_view frame) {
      NodeRequest request;
      if (!request.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
        return absl::InvalidArgumentError("not a request");
      }
      heard_ms_ = MonotonicMillis();
      return Handle(request);
    });
    if (!state.ok()) {
      understood_ = false;
      OnError(fmt::format("the launcher's request is refused: {}",
                          std::string(state.status().message())));
      return false;
    }
    return *state == FrameReader::State::kOpen;
  }

  absl::Status Handle(const NodeRequest& request) {
    switch (request.kind_case()) {
      case NodeRequest::kOpen:
        if (const absl::Status opened = Open(request.open()); !opened.ok()) {
          OnError(std::string(opened.message()));
        }
        return absl::OkStatus();
      case NodeRequest::kPing:
        return absl::OkStatus();
      default:
        if (directory_.empty()) return absl::InvalidArgumentError("no job is open");
    }
    if (request.has_start()) return Start(request.start());
    if (request.has_signal()) {
      const auto role = static_cast<size_t>(request.signal().role());
      if (request.signal().signal() == SIGKILL) {
        processes_.Kill(role);
      } else {
        processes_.Signal(role, request.signal().signal());
      }
    } else if (request.has_list()) {
      List();
    } else if (request.has_get()) {
      if (!master::IsPathInside(request.get().path())) {
        return absl::InvalidArgumentError("a path outside of the job's directory");
      }
      struct stat info {};
      stat((directory_ + "/" + request.get().path()).c_str(), &info);
      outgoing_.push_back({request.get().path(), 0,
                           info.st_mtim.tv_sec * int64_t{1'000'000'000} + info.st_mtim.tv_nsec});
    } else if (request.has_put()) {
      const FilePart& part = request.put();
      const absl::Status written =
          writer_->Write(part.path(), part.bytes(), part.last(), part.modified_ns());
      if (!written.ok()) {
        OnError(std::string(written.message()));
      } else if (part.last()) {
        NodeEvent event;
        event.mutable_written()->set_path(part.path());
        Send(event);
      }
    }
    return absl::OkStatus();
  }

  absl::Status Open(const OpenJob& open) {
    std::string directory = open.directory();
    if (directory.starts_with("~/")) directory = options_.home + directory.substr(1);
    if (!directory.starts_with("/")) {
      return absl::InvalidArgumentError(
          fmt::format("{} is no absolute path: name one in cluster.ssh.directory", directory));
    }
    const JobDirectory dir(directory);
    umask(0077);
    RETURN_IF_ERROR(master::CreateJobDirectory(dir));
    RETURN_IF_ERROR(CheckOwned(directory));
    if (open.lock()) {
      ASSIGN_OR_RETURN(lock_, JobLock::Take(dir, UnixMillis()));
      processes_.GiveLock(lock_->fd());
    }
    directory_ = directory;
    writer_.emplace(directory);
    NodeEvent event;
    event.mutable_opened()->set_directory(directory);
    Send(event);
    return absl::OkStatus();
  }

  absl::Status Start(const StartRole& start) {
    if (!start.log_path().starts_with(directory_ + "/") ||
        !master::IsPathInside(std::string_view(start.log_path()).substr(directory_.size() + 1)) ||
        start.program().empty() || start.program().find('/') != std::string::npos) {
      return absl::InvalidArgumentError("a role outside of its job's directory");
    }
    RoleCommand command;
    command.name = start.name();
    command.program = start.program();
    command.arguments.assign(start.arguments().begin(), start.arguments().end());
    command.environment.assign(start.environment().begin(), start.environment().end());
    command.log_path = start.log_path();
    command.is_master = start.is_master();
    std::error_code error;
    const auto size = std::filesystem::file_size(command.log_path, error);
    logs_[start.role()] = {command.log_path, error ? 0 : static_cast<int64_t>(size)};
    processes_.Start(static_cast<size_t>(start.role()), command);
    return absl::OkStatus();
  }

  void List() {
    const auto files = master::ListJobFiles(directory_);
    if (!files.ok()) return OnError(std::string(files.status().message()));
    NodeEvent event;
    event.mutable_files();
    for (const auto& [path, file] : *files) {
      FileList::File& entry = *event.mutable_files()->add_files();
      entry.set_path(path);
      entry.set_bytes(file.bytes);
      entry.set_modified_ns(file.modified_ns);
    }
    Send(event);
  }

  // One part a turn, so that everything else is told meanwhile.
  void SendFilePart() {
    if (outgoing_.empty()) return;
    Outgoing& file = outgoing_.front();
    NodeEvent event;
    FilePart& part = *event.mutable_part();
    part.set_path(file.path);
    part.set_modified_ns(file.modified_ns);
    auto bytes = master::ReadPart(directory_ + "/" + file.path, file.offset, kMaxPartBytes);
    if (!bytes.ok()) part.set_error(std::string(bytes.status().message()));
    part.set_last(!bytes.ok() || bytes->size() < kMaxPartBytes);
    if (bytes.ok()) {
      file.offset += static_cast<int64_t>(bytes->size());
      part.set_bytes(*std::move(bytes));
    }
    if (part.last()) outgoing_.pop_front();
    Send(event);
  }

  void SendLogs() {
    for (auto& [role, tail] : logs_) SendLog(role, tail);
  }

  void SendLog(int64_t role, LogTail& tail) {
    for (;;) {
      std::error_code error;
      const auto size = std::filesystem::file_size(tail.path, error);
      if (error) return;
      // A log that has been moved aside begins again.
      if (static_cast<int64_t>(size) < tail.offset) tail.offset = 0;
      if (static_cast<int64_t>(size) == tail.offset) return;
      auto text = master::ReadPart(tail.path, tail.offset, kMaxPartBytes);
      if (!text.ok() || text->empty()) return;
      tail.offset += static_cast<int64_t>(text->size());
      NodeEvent event;
      event.mutable_log()->set_role(role);
      event.mutable_log()->set_text(*std::move(text));
      Send(event);
    }
  }

  void SendHello() {
    NodeEvent event;
    NodeHello& hello = *event.mutable_hello();
    hello.set_build_id(options_.build_id);
    hello.set_host(HostName());
    hello.set_cores(UsableCores());
    struct statvfs disk {};
    if (statvfs(options_.home.c_str(), &disk) == 0) {
      hello.set_free_bytes(static_cast<int64_t>(disk.f_bavail * disk.f_frsize));
    }
    hello.set_clock_ms(UnixMillis());
    hello.set_address(options_.address);
    Send(event);
  }

  void Send(const NodeEvent& event) {
    if (!WritePipe(options_.out_fd, EncodeFrame(event)).ok()) gone_ = true;
  }

  void OnStarted(size_t role) override {
    NodeEvent event;
    event.mutable_started()->set_role(static_cast<int64_t>(role));
    Send(event);
  }
  void OnStatusLine(const absl::StatusOr<master::StatusLine>& line) override {
    if (!line.ok()) return OnError(std::string(line.status().message()));
    NodeEvent event;
    event.mutable_status()->set_line(master::EncodeStatusLine(*line));
    Send(event);
  }
  bool WantsActivity(size_t role) const override {
    const auto told = activity_ms_.find(role);
    return told == activity_ms_.end() || MonotonicMillis() - told->second >= kActivityPauseMs;
  }
  void OnActivity(size_t role, const ProcessActivity& activity) override {
    activity_ms_[role] = MonotonicMillis();
    NodeEvent event;
    event.mutable_activity()->set_role(static_cast<int64_t>(role));
    event.mutable_activity()->set_cpu_ticks(activity.cpu_ticks);
    event.mutable_activity()->set_asleep(activity.asleep);
    Send(event);
  }
  void OnExit(size_t role, pid_t pid, const ExitStatus& status) override {
    const auto log = logs_.find(static_cast<int64_t>(role));
    if (log != logs_.end()) SendLog(log->first, log->second);
    NodeEvent event;
    event.mutable_exited()->set_role(static_cast<int64_t>(role));
    event.mutable_exited()->set_pid(pid);
    event.mutable_exited()->set_code(status.code);
    event.mutable_exited()->set_signal(status.signal);
    Send(event);
  }
  void OnError(const std::string& text) override {
    NodeEvent event;
    event.mutable_error()->set_text(text);
    Send(event);
  }

  const NodeOptions& options_;
  LocalProcesses& processes_;
  FrameReader reader_;
  std::string directory_;  // of the job; empty: not open yet
  std::unique_ptr<JobLock> lock_;
  std::optional<master::JobFileWriter> writer_;
  std::map<int64_t, LogTail> logs_;  // by role
  std::deque<Outgoing> outgoing_;
  std::map<size_t, int64_t> activity_ms_;  // when it was told
  int64_t heard_ms_;
  bool gone_ = false;
  bool understood_ = true;
};

}  // namespace

int ServeNode(const NodeOptions& options) {
  signal(SIGPIPE, SIG_IGN);
  const auto processes = LocalProcesses::Make(options.program_dir, options.environment);
  if (!processes.ok()) {
    fmt::print(stderr, "launch node: {}\n", std::string(processes.status().message()));
    return 1;
  }
  return NodeServer(options, **processes).Run();
}

}  // namespace muster::cluster
