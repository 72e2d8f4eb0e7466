#include "bench/paced_network.h"

#include <errno.h>
#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

#include <cstdlib>
#include <cstring>

namespace muster::bench {
namespace {

// The queue holds 2 ms, 50 kB, as a port of a small switch: one flow fills the link with it. In
// longer ones TCP's flows keep the lead that they win at the beginning for seconds, and what
// travels back waits behind them.
constexpr const char* kPaced = "tbf rate 200mbit burst 64kb latency 2ms";
// Segments of TCP in what veth hands over at once: 64 KiB, as it does by itself, are packets that
// no port of a switch meets, and two of them fill the queue. One each would keep the cores busy.
constexpr const char* kPackets = "gso_max_segs 8";

absl::Status Shell(const std::string& command) {
  if (std::system(command.c_str()) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format("'{}' failed", command));
}

}  // namespace

absl::Status EnterOwnNetwork() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (unshare(CLONE_NEWNET) != 0) {
    return absl::FailedPreconditionError(
        fmt::format("no network namespace: {}", std::strerror(errno)));
  }
  return absl::OkStatus();
}

absl::Status ConnectToSwitch(const std::vector<pid_t>& ends) {
  RETURN_IF_ERROR(Shell("ip link add switch type bridge && ip link set switch up"));
  for (size_t i = 0; i < ends.size(); ++i) {
    RETURN_IF_ERROR(
        Shell(fmt::format("ip link add port{0} type veth peer name eth0 netns {1} && "
                          "ip link set port{0} master switch up {3} && "
                          "tc qdisc add dev port{0} root {2}",
                          i, ends[i], kPaced, kPackets)));
  }
  return absl::OkStatus();
}

absl::Status JoinNetwork(int i) {
  return Shell(
      fmt::format("ip address add {}/24 dev eth0 && ip link set eth0 up {} && "
                  "tc qdisc add dev eth0 root {}",
                  PacedAddress(i), kPackets, kPaced));
}

std::string PacedAddress(int i) { return fmt::format("10.0.0.{}", i + 1); }

}  // namespace muster::bench
