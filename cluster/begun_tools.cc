#include "cluster/begun_tools.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "telemetry/time.h"

namespace muster::cluster {

BegunTools::BegunTools(std::vector<std::string> environment, size_t at_once)
    : environment_(std::move(environment)),
      path_(Variable(environment_, "PATH")),
      at_once_(at_once),
      owner_(getpid()) {}

void BegunTools::Begin(const std::vector<std::string>& words) {
  if (getpid() != owner_ || std::ranges::count(begun_, words, &Begun::words) > 0) return;
  begun_.push_back({.words = words});
  StartNext();
}

void BegunTools::StartNext() {
  auto running = static_cast<size_t>(
      std::ranges::count_if(begun_, [](const Begun& b) { return b.tool != nullptr; }));
  for (Begun& begun : begun_) {
    if (running >= at_once_) return;
    if (begun.tool != nullptr || begun.result) continue;
    auto tool = StartedTool::Start(begun.words, environment_, path_);
    if (tool.ok()) {
      begun.tool = *std::move(tool);
      ++running;
    } else {
      begun.result = tool.status();
    }
  }
}

bool BegunTools::AwaitOne(int64_t timeout_ms) {
  std::vector<pollfd> fds;
  for (const Begun& begun : begun_) {
    if (begun.tool != nullptr) fds.push_back({begun.tool->fd(), POLLIN, 0});
  }
  if (poll(fds.data(), fds.size(), static_cast<int>(timeout_ms)) == 0) return false;
  size_t i = 0;
  for (Begun& begun : begun_) {
    if (begun.tool == nullptr || fds[i++].revents == 0) continue;
    begun.result = begun.tool->Result();
    begun.tool.reset();
  }
  StartNext();
  return true;
}

absl::StatusOr<ToolResult> BegunTools::Run(const std::vector<std::string>& words,
                                           int64_t timeout_ms, const std::string& input) {
  const auto begun = std::ranges::find(begun_, words, &Begun::words);
  if (begun == begun_.end() || !input.empty() || getpid() != owner_) {
    return RunTool(words, environment_, path_, timeout_ms, input);
  }
  const int64_t deadline = MonotonicMillis() + timeout_ms;
  while (!begun->result && AwaitOne(std::max<int64_t>(0, deadline - MonotonicMillis()))) {
  }
  absl::StatusOr<ToolResult> result = absl::DeadlineExceededError(
      fmt::format("{} was not done after {} s", words.front(), timeout_ms / 1000));
  if (begun->result) result = *std::move(begun->result);
  begun_.erase(begun);
  StartNext();
  return result;
}

}  // namespace muster::cluster
