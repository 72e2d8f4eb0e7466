#include "cluster/gpu_driver.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>

#include "cluster/ask_hosts.h"
#include "cluster/printable.h"
#include "cluster/ssh.h"

namespace muster::cluster {
namespace {

constexpr int64_t kAskMs = 60'000;  // a driver that loads for the first time takes its time
constexpr int64_t kInstallMs = 900'000;
constexpr int kNoConnection = 255;  // ssh's own

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }
std::string LastLine(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

// What is wrong with the driver of a host; "" when nothing is.
std::string Fault(const ToolResult& answer, int64_t oldest) {
  const std::optional<int64_t> driver = ParseDriver(answer);
  if (driver && *driver >= oldest) return "";
  if (driver) return fmt::format("has NVIDIA's driver {}", *driver);
  const std::string said = FirstLine(answer.out.empty() ? answer.err : answer.out);
  return fmt::format("has no driver of NVIDIA's{}",
                     said.empty() ? "" : fmt::format(" (it says: {})", Printable(said)));
}

// The indices of hosts where it will not do, and what is wrong there.
absl::StatusOr<std::vector<std::pair<size_t, std::string>>> Faults(
    const std::vector<RunHost>& hosts, int64_t oldest, const Patience& patience) {
  ASSIGN_OR_RETURN(const std::vector<ToolResult> answers,
                   AskHosts(hosts, DriverQuestion(), kAskMs, patience));
  std::vector<std::pair<size_t, std::string>> faults;
  for (size_t i = 0; i < hosts.size(); ++i) {
    if (answers[i].code == kNoConnection) {
      return absl::UnavailableError(
          fmt::format("host {}: {}", hosts[i].link.name, hosts[i].link.explain(answers[i].err)));
    }
    const std::string fault = Fault(answers[i], oldest);
    if (!fault.empty()) faults.emplace_back(i, fault);
  }
  return faults;
}

}  // namespace

std::string DriverQuestion() {
  return "nvidia-smi --query-gpu=driver_version --format=csv,noheader";
}

std::optional<int64_t> ParseDriver(const ToolResult& answer) {
  if (answer.code != 0) return std::nullopt;
  std::optional<int64_t> least;
  for (const auto line : absl::StrSplit(answer.out, '\n', absl::SkipWhitespace())) {
    int64_t major = 0;
    if (!absl::SimpleAtoi(line.substr(0, line.find('.')), &major) || major <= 0) {
      return std::nullopt;
    }
    least = std::min(least.value_or(major), major);
  }
  return least;
}

std::string InstallDriverScript(int64_t oldest) {
  // Machines that have just begun may be installing something already.
  const std::string script = fmt::format(
      "set -e\n"
      "export DEBIAN_FRONTEND=noninteractive\n"
      "get() {{ apt-get -q -o DPkg::Lock::Timeout=300 \"$@\"; }}\n"
      ". /etc/os-release\n"
      "case $ID in\n"
      "ubuntu)\n"
      "  get update\n"
      "  get install -y \"linux-headers-$(uname -r)\" nvidia-headless-{0}-server "
      "nvidia-utils-{0}-server ;;\n"
      "debian)\n"
      "  get update\n"
      "  get install -y \"linux-headers-$(uname -r)\" ca-certificates curl\n"
      "  curl -fsSLo /tmp/cuda-keyring.deb "
      "https://developer.download.nvidia.com/compute/cuda/repos/"
      "\"debian$VERSION_ID\"/x86_64/cuda-keyring_1.1-1_all.deb\n"
      "  dpkg -i /tmp/cuda-keyring.deb\n"
      "  get update\n"
      "  get install -y nvidia-open ;;\n"
      "*)\n"
      "  echo \"it can be installed on Debian and Ubuntu alone, and this is $ID\" >&2\n"
      "  exit 1 ;;\n"
      "esac\n"
      "modprobe nvidia || true\n",
      oldest);
  return fmt::format("s=; [ \"$(id -u)\" = 0 ] || s='sudo -n'; $s sh -c {} >/dev/null </dev/null",
                     ShellQuote(script));
}

absl::Status CheckDrivers(const std::vector<RunHost>& hosts, int64_t oldest, bool install,
                          const Patience& patience, const Say& say) {
  ASSIGN_OR_RETURN(auto faults, Faults(hosts, oldest, patience));
  if (faults.empty()) return absl::OkStatus();
  if (!install) {
    const auto& [host, fault] = faults.front();
    return absl::FailedPreconditionError(fmt::format(
        "host {} {}, and this build needs {} or a later one: write an image that has it, "
        "cluster.installDriver: true, or training.device: CPU",
        hosts[host].link.name, fault, oldest));
  }
  std::vector<RunHost> lacking;
  for (const auto& [host, fault] : faults) lacking.push_back(hosts[host]);
  say(fmt::format("installing NVIDIA's driver {} or a later one on {} machine{}", oldest,
                  lacking.size(), lacking.size() == 1 ? "" : "s"));
  ASSIGN_OR_RETURN(const std::vector<ToolResult> installed,
                   AskHosts(lacking, InstallDriverScript(oldest), kInstallMs, patience));
  for (size_t i = 0; i < lacking.size(); ++i) {
    if (installed[i].code == 0) continue;
    return absl::FailedPreconditionError(
        fmt::format("NVIDIA's driver cannot be installed on host {}: {}", lacking[i].link.name,
                    Printable(LastLine(installed[i].err))));
  }
  ASSIGN_OR_RETURN(faults, Faults(lacking, oldest, patience));
  if (faults.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("host {} {} after it was installed, and this build needs {} or a later one: "
                  "write an image that has it",
                  lacking[faults.front().first].link.name, faults.front().second, oldest));
}

}  // namespace muster::cluster
