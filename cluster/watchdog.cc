#include "cluster/watchdog.h"

#include <fmt/format.h>

namespace muster::cluster {
namespace {

constexpr int kFirstSeconds = 1'200, kAloneSeconds = 600;
constexpr int kLookSeconds = 10;

}  // namespace

std::string UnlessItStays(const std::string& user) {
  return fmt::format("[ ! -e ~{}/{} ] || exit 0\n", user, kMachineStaysFile);
}

// A keeper's socket is one of the abstract namespace (cluster/keeper_socket.h), which the kernel
// lists with an '@'.
std::string WatchdogScript(const std::string& user) {
  return fmt::format(
      "setsid sh -c 'left={first}\n"
      "while [ $left -gt 0 ]; do\n"
      "  sleep {look}\n"
      "  left=$((left - {look}))\n"
      "  ! grep -q @muster-keeper- /proc/net/unix || left={alone}\n"
      "  [ ! -e ~{user}/{ends} ] || left=0\n"
      "done\n"
      "shutdown -P now' </dev/null >/dev/null 2>&1 &\n",
      fmt::arg("first", kFirstSeconds), fmt::arg("look", kLookSeconds),
      fmt::arg("alone", kAloneSeconds), fmt::arg("user", user), fmt::arg("ends", kMachineEndsFile));
}

}  // namespace muster::cluster
