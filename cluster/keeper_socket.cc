#include "cluster/keeper_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "telemetry/check.h"
#include "telemetry/file.h"

namespace muster::cluster {
namespace {

constexpr int kWaiting = 8;

struct Address {
  explicit Address(const std::string& name) {
    CHECK(name.size() + 1 < sizeof(un.sun_path));
    un.sun_family = AF_UNIX;
    // A name that begins with a zero byte lies in no file system.
    std::memcpy(un.sun_path + 1, name.data(), name.size());
    size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  }
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&un); }
  sockaddr_un un{};
  socklen_t size = 0;
};

bool IsOwn(int fd) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid();
}

}  // namespace

absl::StatusOr<std::string> KeeperName(const std::string& folder, int place) {
  struct stat info {};
  if (stat(folder.c_str(), &info) != 0) {
    return ErrnoStatus(errno, fmt::format("cannot look at {}", folder));
  }
  return fmt::format("muster-keeper-{:x}-{:x}-{}", info.st_dev, info.st_ino, place);
}

absl::StatusOr<int> ListenAsKeeper(const std::string& name) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return ErrnoStatus(errno, "cannot make a socket");
  Address address(name);
  if (bind(fd, address.get(), address.size) == 0 && listen(fd, kWaiting) == 0) return fd;
  const int error = errno;
  close(fd);
  if (error == EADDRINUSE) return absl::AlreadyExistsError("there is a keeper");
  return ErrnoStatus(error, "cannot listen on a socket");
}

int AcceptOwn(int listener) {
  const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0 || IsOwn(fd)) return fd;
  close(fd);
  return -1;
}

absl::StatusOr<int> ConnectToKeeper(const std::string& name) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return ErrnoStatus(errno, "cannot make a socket");
  Address address(name);
  absl::Status failed;
  if (connect(fd, address.get(), address.size) != 0) {
    failed = errno == ECONNREFUSED ? absl::NotFoundError("there is no keeper")
                                   : ErrnoStatus(errno, "cannot reach the job's keeper");
  } else if (!IsOwn(fd)) {
    failed = absl::PermissionDeniedError("another user answers for the job's keeper");
  }
  if (failed.ok()) return fd;
  close(fd);
  return failed;
}

}  // namespace muster::cluster
