#include "cluster/ask_hosts.h"

#include <fmt/format.h>
#include <poll.h>

#include <memory>

#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr int64_t kLookMs = 50;

}  // namespace

absl::StatusOr<std::vector<ToolResult>> AskHosts(const std::vector<RunHost>& hosts,
                                                 const std::string& script, int64_t timeout_ms,
                                                 const Patience& patience) {
  std::vector<std::unique_ptr<StartedTool>> tools;
  for (const RunHost& host : hosts) {
    std::vector<std::string> words = host.link.argv;
    words.back() = script;
    ASSIGN_OR_RETURN(
        std::unique_ptr<StartedTool> tool,
        StartedTool::Start(words, host.link.environment, Variable(host.link.environment, "PATH")));
    tools.push_back(std::move(tool));
  }
  const int64_t began = MonotonicMillis();
  std::vector<ToolResult> results;
  for (size_t i = 0; i < tools.size();) {
    pollfd ended{tools[i]->fd(), POLLIN, 0};
    if (poll(&ended, 1, 0) > 0) {
      results.push_back(tools[i]->Result());
      ++i;
      continue;
    }
    if (MonotonicMillis() - began > timeout_ms) {
      return absl::DeadlineExceededError(fmt::format(
          "host {} does not answer within {}", hosts[i].link.name, FormatDuration(timeout_ms)));
    }
    if (!patience.pause(kLookMs)) return absl::CancelledError("interrupted");
  }
  return results;
}

}  // namespace muster::cluster
