#include "cluster/node_relay.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "cluster/keeper_socket.h"
#include "cluster/node.pb.h"
#include "cluster/node_wire.h"
#include "master/job_directory.h"
#include "telemetry/cores.h"
#include "telemetry/file.h"
#include "telemetry/host_name.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

// For a keeper to end its roles after the launcher's last word.
constexpr int kEndMs = 5000;
// For a keeper that begins with the host.
constexpr int64_t kKeeperMs = 15'000;
// For a keeper that is about to end.
constexpr int kTries = 20, kTryPauseMs = 50;

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

class NodeRelay {
 public:
  explicit NodeRelay(const NodeOptions& options) : options_(options) {}
  ~NodeRelay() {
    if (keeper_ >= 0) close(keeper_);
  }
  NodeRelay(const NodeRelay&) = delete;
  NodeRelay& operator=(const NodeRelay&) = delete;

  int Run() {
    SendHello();
    int64_t heard_ms = MonotonicMillis();
    bool launcher = true;
    while (!gone_) {
      std::array<pollfd, 2> fds = {pollfd{launcher ? options_.in_fd : -1, POLLIN, 0},
                                   pollfd{keeper_, POLLIN, 0}};
      const int ready = poll(fds.data(), fds.size(), launcher ? 1000 : kEndMs);
      if (ready == 0 && !launcher) break;
      if (fds[0].revents != 0) {
        heard_ms = MonotonicMillis();
        launcher = Hear();
        // The keeper knows by this that the launcher is gone; its own end is the end of it all.
        if (!launcher && keeper_ >= 0) shutdown(keeper_, SHUT_WR);
        if (!launcher && keeper_ < 0) break;
      }
      if (fds[1].revents != 0 && !Bring() && !(launcher && FindAnother())) break;
      // The keeper looks itself once there is one.
      if (keeper_ < 0 && MonotonicMillis() - heard_ms > options_.silence_ms) break;
    }
    return understood_ ? 0 : 2;
  }

 private:
  // False when the launcher is gone, or not to be understood.
  bool Hear() {
    const auto state = reader_.Read(options_.in_fd, [this](std::string_view frame) {
      return keeper_ >= 0 ? Pass(frame) : Begin(frame);
    });
    if (state.ok()) return *state == FrameReader::State::kOpen;
    understood_ = false;
    SendError(fmt::format("the launcher's request is refused: {}",
                          std::string(state.status().message())));
    return false;
  }

  absl::Status Begin(std::string_view frame) {
    NodeRequest request;
    if (!request.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
      return absl::InvalidArgumentError("not a request");
    }
    if (request.has_ping() || request.has_end() || request.has_leave()) return absl::OkStatus();
    if (!request.has_open()) return absl::InvalidArgumentError("no job is open");
    open_ = request;
    auto keeper = FindKeeper(*request.mutable_open());
    if (keeper.ok() && *keeper >= 0) {
      keeper_ = *keeper;
      // One that serves another launcher may have said so, and closed, before it is asked.
      (void)WritePipe(keeper_, EncodeFrame(request)).ok();
      return absl::OkStatus();
    }
    if (!keeper.ok()) {
      SendError(std::string(keeper.status().message()));
      return absl::OkStatus();
    }
    NodeEvent event;
    event.mutable_opened()->set_directory(request.open().directory());
    Send(event);
    return absl::OkStatus();
  }

  // A keeper that was about to end answers nobody: whether there is another one now.
  bool FindAnother() {
    if (answered_ || gone_ || ++tries_ > kTries) return false;
    close(std::exchange(keeper_, -1));
    poll(nullptr, 0, kTryPauseMs);
    const NodeRequest open = open_;
    const absl::Status begun = Begin(open.SerializeAsString());
    return begun.ok();
  }

  // -1: there is none, and none is to be. Makes the directory in `open` absolute.
  absl::StatusOr<int> FindKeeper(OpenJob& open) const {
    ASSIGN_OR_RETURN(const std::string directory, AbsoluteOn(options_, open.directory()));
    open.set_directory(directory);
    struct stat info {};
    if (open.attach() && stat(directory.c_str(), &info) != 0) return -1;
    if (!open.here()) umask(0077);
    if (!open.attach())
      RETURN_IF_ERROR(master::CreateJobDirectory(master::JobDirectory(directory)));
    if (!open.here()) RETURN_IF_ERROR(CheckOwned(directory));
    ASSIGN_OR_RETURN(const std::string name, KeeperName(directory, open.host()));
    auto keeper = ConnectToKeeper(name);
    if (!absl::IsNotFound(keeper.status())) return keeper;
    if (open.attach()) return -1;
    if (open.kept()) return AwaitKeeper(name, directory);
    RETURN_IF_ERROR(StartKeeper(options_, name));
    return ConnectToKeeper(name);
  }

  // The one that begins with this host.
  static absl::StatusOr<int> AwaitKeeper(const std::string& name, const std::string& directory) {
    const int64_t began = MonotonicMillis();
    for (;;) {
      auto keeper = ConnectToKeeper(name);
      if (!absl::IsNotFound(keeper.status())) return keeper;
      if (MonotonicMillis() - began > kKeeperMs) break;
      poll(nullptr, 0, kTryPauseMs);
    }
    return absl::UnavailableError(fmt::format(
        "no keeper has begun with this host: {}/logs/slurm.log there says why", directory));
  }

  absl::Status Pass(std::string_view frame) const {
    const auto size = static_cast<uint32_t>(frame.size());
    std::string bytes(reinterpret_cast<const char*>(&size), sizeof(size));
    bytes += frame;
    // When the keeper is gone, what it sends says so.
    (void)WritePipe(keeper_, bytes).ok();
    return absl::OkStatus();
  }

  // False at the end of the keeper or the launcher.
  bool Bring() {
    std::array<char, size_t{64} << 10> buffer{};
    ssize_t n;
    do {
      n = read(keeper_, buffer.data(), buffer.size());
    } while (n < 0 && errno == EINTR);
    answered_ |= n > 0;
    return n > 0 && WritePipe(options_.out_fd, {buffer.data(), static_cast<size_t>(n)}).ok();
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

  void SendError(const std::string& text) {
    NodeEvent event;
    event.mutable_error()->set_text(text);
    Send(event);
  }

  void Send(const NodeEvent& event) {
    if (!WritePipe(options_.out_fd, EncodeFrame(event)).ok()) gone_ = true;
  }

  const NodeOptions& options_;
  FrameReader reader_;
  int keeper_ = -1;
  NodeRequest open_;       // what the keeper was asked first
  bool answered_ = false;  // the keeper has said something
  int tries_ = 0;
  bool gone_ = false, understood_ = true;
};

}  // namespace

int ServeNode(const NodeOptions& options) {
  signal(SIGPIPE, SIG_IGN);
  return NodeRelay(options).Run();
}

}  // namespace muster::cluster
