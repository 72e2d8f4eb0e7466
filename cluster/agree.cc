#include "cluster/agree.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cstdio>

namespace muster::cluster {

absl::Status Agree(const std::string& what, bool yes, const Signals& signals, const Say& say,
                   const Deed& deed) {
  if (yes) {
    say(fmt::format("{} {}", deed.doing, what));
    return absl::OkStatus();
  }
  if (isatty(STDIN_FILENO) == 0) {
    return absl::FailedPreconditionError(fmt::format(
        "this would {} {}: agree with --yes where nobody can be asked", deed.verb, what));
  }
  fmt::print("{} {}? [y/N] ", deed.verb, what);
  std::fflush(stdout);
  pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {signals.fd(), POLLIN, 0}};
  char answer[64];
  const bool typed =
      poll(fds, 2, -1) > 0 && fds[1].revents == 0 && read(STDIN_FILENO, answer, sizeof(answer)) > 0;
  if (typed && (answer[0] == 'y' || answer[0] == 'Y')) return absl::OkStatus();
  return absl::CancelledError(fmt::format("nothing was {}", deed.done));
}

}  // namespace muster::cluster
