#include "cluster/run_memory.h"

#include <variant>

namespace muster::cluster {

using master::MessageLine;
using master::ProgressLine;
using master::ReplicaLine;
using master::StateLine;

void RunMemory::OnStarted(int64_t role, std::string name, int64_t log_bytes, int64_t now_ms) {
  roles_[role] = {std::move(name), log_bytes, now_ms, std::nullopt};
}

void RunMemory::OnLine(const master::StatusLine& line, int64_t now_ms) {
  if (std::holds_alternative<master::ListeningLine>(line)) {
    listening_ = {line, now_ms};
  } else if (const auto* state = std::get_if<StateLine>(&line)) {
    state_ = {line, now_ms};
    // The running time is counted from the first.
    if (state->state == master::RunState::kRunning && !running_) running_ = state_;
  } else if (const auto* replica = std::get_if<ReplicaLine>(&line)) {
    replicas_[{replica->role, replica->index}] = {line, now_ms};
  } else if (const auto* progress = std::get_if<ProgressLine>(&line)) {
    ProgressLine whole = *progress;
    if (progress_) {
      // What a line does not tell holds on.
      const auto& last = std::get<ProgressLine>(progress_->line);
      if (!whole.loss) whole.loss = last.loss;
      if (!whole.validation_accuracy) whole.validation_accuracy = last.validation_accuracy;
      if (!whole.samples_per_second) whole.samples_per_second = last.samples_per_second;
    }
    progress_ = {whole, now_ms};
  } else if (std::holds_alternative<MessageLine>(line)) {
    messages_.push_back({line, now_ms});
    if (messages_.size() > kMessages) messages_.pop_front();
  } else if (std::holds_alternative<master::ResultLine>(line)) {
    result_ = {line, now_ms};
  }
}

void RunMemory::OnLogBytes(int64_t role, int64_t log_bytes) {
  const auto it = roles_.find(role);
  if (it != roles_.end()) it->second.log_bytes = log_bytes;
}

void RunMemory::OnExit(int64_t role, pid_t pid, const ExitStatus& status) {
  const auto it = roles_.find(role);
  if (it != roles_.end()) it->second.exit = {pid, status};
}

std::vector<NodeEvent> RunMemory::Events(int64_t now_ms) const {
  std::vector<NodeEvent> events;
  for (const auto& [role, about] : roles_) {
    RoleStarted& started = *events.emplace_back().mutable_started();
    started.set_role(role);
    started.set_name(about.name);
    started.set_log_bytes(about.log_bytes);
    started.set_age_ms(now_ms - about.started_ms);
  }
  const auto tell = [&](const Line& line) {
    StatusText& status = *events.emplace_back().mutable_status();
    status.set_line(master::EncodeStatusLine(line.line));
    status.set_age_ms(now_ms - line.ms);
  };
  if (listening_) tell(*listening_);
  for (const auto& [role, line] : replicas_) tell(line);
  for (const Line& line : messages_) tell(line);
  if (running_ && running_->ms != state_->ms) tell(*running_);
  if (progress_) tell(*progress_);
  if (result_) tell(*result_);
  if (state_) tell(*state_);
  for (const auto& [role, about] : roles_) {
    if (!about.exit) continue;
    RoleExited& exited = *events.emplace_back().mutable_exited();
    exited.set_role(role);
    exited.set_pid(about.exit->first);
    exited.set_code(about.exit->second.code);
    exited.set_signal(about.exit->second.signal);
  }
  return events;
}

}  // namespace muster::cluster
