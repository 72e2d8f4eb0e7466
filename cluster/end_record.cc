#include "cluster/end_record.h"

#include <fmt/format.h>

#include "master/job_directory.h"
#include "master/job_state.h"

namespace muster::cluster {

void EndRecord::OnReplica(const master::ReplicaLine& line) {
  const std::string name = fmt::format("{}-{}", line.role, line.index);
  const bool gone = line.state == "LEFT" || line.state == "LOST";
  gone ? (void)gone_.insert(name) : (void)gone_.erase(name);
}

bool EndRecord::OnExit(const std::string& role, const ExitStatus& status) {
  const bool spared = role.starts_with("worker-") &&
                      (EndedFromOutside(status) || (gone_.contains(role) && status.signal == 0));
  if (!spared && !status.ok() && reason_.empty()) {
    reason_ = fmt::format("{} {}", role, DescribeExit(status));
  }
  return spared;
}

void EndRecord::Stop(const std::string& reason) {
  stopped_ = true;
  reason_ = reason;
}

absl::StatusOr<std::string> EndRecord::Write(const std::string& directory, int64_t now_ms) const {
  const std::string path = master::JobDirectory(directory).state_json();
  ASSIGN_OR_RETURN(master::JobState state, master::ReadJobState(path));
  const bool said = master::IsFinal(state.state);
  if (said && !(stopped_ && state.state == master::RunState::kCancelled)) return "";
  if (!said) {
    state.state = master::RunState::kFailed;
    state.end_ms = now_ms;
  }
  state.error_message = reason_.empty() ? "its roles ended without a word" : reason_;
  state.update_ms = now_ms;
  RETURN_IF_ERROR(master::WriteJobState(path, state));
  return state.error_message;
}

}  // namespace muster::cluster
