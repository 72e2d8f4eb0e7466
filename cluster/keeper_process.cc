#include "cluster/keeper_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "cluster/keeper_socket.h"
#include "cluster/local_processes.h"
#include "master/job_directory.h"
#include "telemetry/file.h"

namespace muster::cluster {
namespace {

// What the relay is told before anything is served: "ok", or why there is no keeper.
void Tell(int fd, std::string_view text) {
  (void)!write(fd, text.data(), text.size());
  close(fd);
}

int Keep(const NodeOptions& options, const std::string& name, int ready, bool with_host) {
  const auto listener = ListenAsKeeper(name);
  // Another launcher may have been faster: its keeper will answer.
  if (absl::IsAlreadyExists(listener.status())) return 0;
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  const auto processes = LocalProcesses::Make(options.program_dir, options.environment);
  if (!listener.ok() || !processes.ok() || null < 0) {
    const absl::Status why = !listener.ok() ? listener.status() : processes.status();
    Tell(ready, why.ok() ? "cannot open /dev/null" : std::string(why.message()));
    return 1;
  }
  // The way to the launcher must end with the relay.
  for (int fd = 0; fd < 3; ++fd) dup2(null, fd);
  Tell(ready, "ok");
  RunKeeper(options, **processes, *listener, with_host);
  return 0;
}

}  // namespace

absl::Status StartKeeper(const NodeOptions& options, const std::string& name) {
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make a pipe");
  const pid_t child = fork();
  if (child == 0) {
    // A session of its own, then not its leader: no terminal can become its.
    setsid();
    close(ready[0]);
    if (fork() != 0) _exit(0);
    _exit(Keep(options, name, ready[1], /*with_host=*/false));
  }
  close(ready[1]);
  std::string said;
  char buffer[512];
  for (ssize_t n; (n = read(ready[0], buffer, sizeof(buffer))) != 0;) {
    if (n < 0 && errno != EINTR) break;
    if (n > 0) said.append(buffer, static_cast<size_t>(n));
  }
  close(ready[0]);
  if (child < 0) return absl::UnavailableError("cannot make another process");
  waitpid(child, nullptr, 0);
  if (said.empty() || said == "ok") return absl::OkStatus();
  return absl::UnavailableError(said);
}

absl::StatusOr<std::string> AbsoluteOn(const NodeOptions& options, const std::string& directory) {
  if (directory.starts_with("~/")) return options.home + directory.substr(1);
  if (directory.starts_with("/")) return directory;
  return absl::InvalidArgumentError(
      fmt::format("{} is no absolute path: name one in cluster.ssh.directory", directory));
}

int ServeKeeper(const NodeOptions& options, const std::string& directory, int place) {
  umask(0077);
  absl::StatusOr<std::string> name = AbsoluteOn(options, directory);
  if (name.ok()) {
    const absl::Status made = master::CreateJobDirectory(master::JobDirectory(*name));
    name = made.ok() ? KeeperName(*name, place) : made;
  }
  if (name.ok()) return Keep(options, *name, dup(STDERR_FILENO), /*with_host=*/true);
  fmt::print(stderr, "{}\n", std::string(name.status().message()));
  return 1;
}

}  // namespace muster::cluster
