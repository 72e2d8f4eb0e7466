#include "cluster/local_record.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "cluster/job_registry.h"
#include "master/history.h"
#include "master/report.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

using master::JobState;
using master::ReplicaState;
using master::RunState;

// The chief trainer runs on the master's machine: it has no entry of its own.
std::vector<ReplicaState> ExpectedReplicas(const LocalJob& job) {
  std::vector<ReplicaState> replicas;
  for (const LocalRole& role : job.roles) {
    if (role.role == "chief") continue;
    replicas.push_back({.role = role.role, .index = role.index});
  }
  return replicas;
}

JobState StateOnDisk(const master::JobDirectory& dir) {
  const absl::StatusOr<JobState> state = master::ReadJobState(dir.state_json());
  return state.ok() ? *state : JobState();
}

void NoteEnd(const RoleEnd& end, JobState* state) {
  const std::string entry = end.role == "chief" ? "master" : end.role;
  const int index = end.role == "chief" ? 0 : end.index;
  for (ReplicaState& replica : state->replicas) {
    if (replica.role != entry || replica.index != index) continue;
    if (std::find(replica.pids.begin(), replica.pids.end(), end.pid) == replica.pids.end()) {
      replica.pids.push_back(end.pid);
    }
    if (end.exit.ok()) {
      if (replica.state != "LOST" && replica.state != "LEFT") replica.state = "FINISHED";
    } else {
      replica.state = "LOST";
      replica.detail = DescribeExit(end.exit);
    }
  }
}

bool HasTrace(const master::JobDirectory& dir) {
  std::error_code error;
  return std::filesystem::exists(dir.trace_json(), error);
}

std::string AbsoluteFolder(const std::string& folder) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::absolute(folder, error).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.string();
}

absl::Status WriteReport(const LocalJob& job, const master::JobDirectory& dir,
                         const JobState& state) {
  ASSIGN_OR_RETURN(master::RunHistory history, master::ReadHistory(dir.history(), nullptr));
  const master::ReportInput input{.title = job.job_id,
                                  .state = state,
                                  .history = std::move(history),
                                  .plan = job.plan,
                                  .settings = job.settings,
                                  .substitutions = job.substitutions,
                                  .trace = HasTrace(dir)};
  return WriteFileAtomically(dir.report_html(), master::RenderReport(input));
}

}  // namespace

void NoteJob(const LocalJob& job, const LocalOptions& options, bool stays, int64_t now_ms) {
  const absl::Status noted = JobRegistry(options.registry)
                                 .Write({.job_id = job.job_id,
                                         .job_dir = AbsoluteFolder(job.job_dir),
                                         .provider = job.provider,
                                         .began_ms = now_ms,
                                         .stays = stays});
  if (noted.ok()) return;
  const std::string text = fmt::format("warning: launch jobs will not know this job: {}\n",
                                       std::string(noted.message()));
  (void)!write(options.err_fd, text.data(), text.size());
}

void NoteStays(const LocalJob& job, const LocalOptions& options) {
  const auto entry = JobRegistry(options.registry).Find(AbsoluteFolder(job.job_dir));
  NoteJob(job, options, /*stays=*/true, entry.ok() ? entry->began_ms : UnixMillis());
}

absl::Status WriteFirstRecord(const LocalJob& job, const master::JobDirectory& dir,
                              int64_t now_ms) {
  RETURN_IF_ERROR(WriteFileAtomically(dir.job_yaml(), job.job_yaml));
  const JobState earlier = StateOnDisk(dir);
  JobState state;
  state.job_id = job.job_id;
  state.state = RunState::kPreparing;
  state.create_ms = earlier.create_ms != 0 ? earlier.create_ms : now_ms;
  state.update_ms = now_ms;
  state.step = earlier.step;
  state.total_steps = job.total_steps;
  state.metrics = earlier.metrics;
  state.last_checkpoint = earlier.last_checkpoint;
  state.best_checkpoint = earlier.best_checkpoint;
  state.replicas = ExpectedReplicas(job);
  state.dollars_per_hour = job.dollars_per_hour;
  return master::WriteJobState(dir.state_json(), state);
}

absl::Status WriteLastRecord(const LocalJob& job, const master::JobDirectory& dir,
                             const Follower& follower, const std::vector<RoleEnd>& ends,
                             int64_t now_ms) {
  JobState state = StateOnDisk(dir);
  const bool said = state.state == follower.outcome();
  if (state.replicas.empty()) state.replicas = ExpectedReplicas(job);
  for (const RoleEnd& end : ends) NoteEnd(end, &state);
  state.job_id = job.job_id;
  state.state = follower.outcome();
  if (!said || state.end_ms == 0) state.end_ms = now_ms;
  state.update_ms = now_ms;
  if (state.error_message.empty() && follower.failure()) {
    state.error_message = follower.failure()->text;
  }
  // The master only knows that it was interrupted.
  if (!follower.cancel_reason().empty() && state.state == RunState::kCancelled) {
    state.error_message = follower.cancel_reason();
  }
  RETURN_IF_ERROR(master::WriteJobState(dir.state_json(), state));
  std::error_code error;
  if (said && std::filesystem::exists(dir.report_html(), error)) return absl::OkStatus();
  return WriteReport(job, dir, state);
}

std::string Summary(const master::JobDirectory& dir, const Follower& follower, int64_t now_ms) {
  const DisplayState display = follower.Display(now_ms);
  const bool succeeded = follower.outcome() == RunState::kSucceeded;
  std::string out;
  if (succeeded && follower.result() && !follower.result()->confusion.empty()) {
    out += follower.result()->confusion;
    if (out.back() != '\n') out += '\n';
    out += '\n';
  }
  const int64_t step = follower.result() ? follower.result()->step : display.step;
  out += fmt::format("{} at step {} of {} after {}\n", succeeded ? "done" : "stopped", step,
                     display.total_steps, FormatDuration(display.elapsed_ms));
  const auto line = [&out](std::string_view name, std::string_view value) {
    out += fmt::format("{:<20} {}\n", name, value);
  };
  const auto percent = [](double fraction) { return fmt::format("{:.1f} %", 100 * fraction); };
  if (const auto& result = follower.result()) {
    if (result->test_accuracy) line("test accuracy", percent(*result->test_accuracy));
    if (result->validation_accuracy) {
      line("validation accuracy", percent(*result->validation_accuracy));
    }
    if (!result->model_path.empty()) line("model", result->model_path);
    if (!result->checkpoint.empty()) line("checkpoint", result->checkpoint);
  }
  line("report", dir.report_html());
  if (HasTrace(dir)) line("trace", dir.trace_json());
  if (succeeded) {
    line("try next", fmt::format("launch predict --job-dir {} clip.wav", dir.root()));
  } else {
    line("to go on", "run the same command again with this --job-dir");
  }
  return out;
}

}  // namespace muster::cluster
