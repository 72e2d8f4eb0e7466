#include "cluster/cloud_tool.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

namespace muster::cluster {
namespace {

constexpr int64_t kFirstPauseMs = 1'000;
constexpr int kTries = 4;

}  // namespace

absl::StatusOr<ToolResult> CloudTool::Ask(const std::vector<std::string>& words,
                                          const std::function<absl::Status()>& before_each) const {
  absl::Status last;
  int64_t pause = kFirstPauseMs;
  for (int tries = kTries; tries > 0; --tries, pause *= 2) {
    if (before_each) RETURN_IF_ERROR(before_each());
    auto result = tools_(words, timeout_ms_, "");
    if (absl::IsNotFound(result.status())) return absl::NotFoundError(missing_);
    last = result.ok() ? judge_(*result) : result.status();
    if (last.ok()) return result;
    if (!absl::IsUnavailable(last) && !absl::IsDeadlineExceeded(last)) return last;
    if (tries > 1 && !patience_.pause(pause)) break;
  }
  return absl::UnavailableError(last.message());
}

void CloudTool::Begin(const std::vector<std::string>& words) const {
  if (shortcuts_.begin) shortcuts_.begin(words);
}

absl::StatusOr<std::string> CloudTool::AskForTheDay(const std::string& name,
                                                    const std::vector<std::string>& words) const {
  if (!shortcuts_.folder.keeps()) {
    ASSIGN_OR_RETURN(ToolResult result, Ask(words));
    return std::move(result.out);
  }
  const int64_t now_ms = patience_.now_ms();
  if (auto kept = shortcuts_.folder.Find(name, now_ms); kept.ok()) return std::move(kept->text);
  ASSIGN_OR_RETURN(ToolResult result, Ask(words));
  // It is asked for again when it cannot be kept.
  shortcuts_.folder.Keep(name, result.out, now_ms).IgnoreError();
  return std::move(result.out);
}

void CloudTool::BeginForTheDay(const std::string& name,
                               const std::vector<std::string>& words) const {
  if (begins() && !shortcuts_.folder.Find(name, patience_.now_ms()).ok()) Begin(words);
}

bool IsUnasked(const absl::Status& status) { return absl::IsUnimplemented(status); }

std::vector<std::string> Lines(const std::string& text) {
  return absl::StrSplit(text, '\n', absl::SkipWhitespace());
}

SshHost SshHostAt(const Machine& machine, const std::string& user) {
  SshHost host;
  host.set_host(machine.address);
  host.set_user(user);
  return host;
}

RunHost ReachMachine(const Machine& machine, const SshHost& host,
                     const std::function<RunHost(const SshHost&)>& reach) {
  RunHost way = reach(host);
  way.link.name = fmt::format("{} {} ({}, {})", RoleName(machine.role), machine.index, machine.id,
                              machine.address);
  way.address_field = "a network where machines see their own address";
  return way;
}

}  // namespace muster::cluster
