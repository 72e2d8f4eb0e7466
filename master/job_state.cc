#include "master/job_state.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "master/json_fields.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::master {
namespace {

constexpr std::array<const char*, 7> kStateNames = {"QUEUED", "PREPARING",  "RUNNING",  "SUCCEEDED",
                                                    "FAILED", "CANCELLING", "CANCELLED"};

Json TimeOrNull(int64_t ms) { return ms == 0 ? Json(nullptr) : Json(FormatTime(ms)); }

Json NumberOrNull(const std::optional<double>& value) {
  return value.has_value() ? Json(*value) : Json(nullptr);
}

Json EncodeReplica(const ReplicaState& replica) {
  Json json = {{"role", replica.role},
               {"index", replica.index},
               {"pids", replica.pids},
               {"state", replica.state},
               {"lastSeen", TimeOrNull(replica.last_seen_ms)},
               {"host", replica.host},
               {"metrics", replica.metrics},
               {"device", replica.device},
               {"leases", replica.leases},
               {"step", replica.step}};
  if (!replica.detail.empty()) json["detail"] = replica.detail;
  return json;
}

absl::Status DecodeReplica(const Json& json, const std::string& where, ReplicaState* replica) {
  Fields fields(json, where);
  fields.Require("role");
  fields.Require("index");
  fields.Read("role", &replica->role);
  fields.Read("index", &replica->index);
  fields.Read("pids", &replica->pids);
  fields.Read("state", &replica->state);
  fields.ReadTime("lastSeen", &replica->last_seen_ms);
  fields.Read("host", &replica->host);
  fields.Read("metrics", &replica->metrics);
  fields.Read("device", &replica->device);
  fields.Read("leases", &replica->leases);
  fields.Read("step", &replica->step);
  fields.Read("detail", &replica->detail);
  return fields.status();
}

Json EncodeCheckpoint(const std::optional<CheckpointSummary>& checkpoint) {
  if (!checkpoint.has_value()) return nullptr;
  return {{"path", checkpoint->path},
          {"step", checkpoint->step},
          {"validation_accuracy", NumberOrNull(checkpoint->validation_accuracy)}};
}

void DecodeCheckpoint(Fields& fields, const char* name, std::optional<CheckpointSummary>* out) {
  const Json* json = fields.Object(name);
  if (json == nullptr) return;
  CheckpointSummary checkpoint;
  Fields inner(*json, fields.path(name) + ".");
  inner.Read("path", &checkpoint.path);
  inner.Read("step", &checkpoint.step);
  inner.Read("validation_accuracy", &checkpoint.validation_accuracy);
  fields.Merge(inner.status());
  *out = std::move(checkpoint);
}

void DecodeMetrics(Fields& fields, JobMetrics* metrics) {
  const Json* json = fields.Object("metrics");
  if (json == nullptr) return;
  Fields inner(*json, "metrics.");
  inner.Read("train_loss", &metrics->train_loss);
  inner.Read("validation_accuracy", &metrics->validation_accuracy);
  inner.Read("test_accuracy", &metrics->test_accuracy);
  inner.Read("samples_per_second", &metrics->samples_per_second);
  fields.Merge(inner.status());
}

void DecodeReplicas(Fields& fields, std::vector<ReplicaState>* replicas) {
  const Json* json = fields.Objects("replicas");
  if (json == nullptr) return;
  for (size_t i = 0; i < json->size(); ++i) {
    replicas->emplace_back();
    fields.Merge(DecodeReplica((*json)[i], fmt::format("replicas[{}].", i), &replicas->back()));
  }
}

}  // namespace

const char* RunStateName(RunState state) { return kStateNames[static_cast<size_t>(state)]; }

std::optional<RunState> ParseRunState(std::string_view name) {
  for (size_t i = 0; i < kStateNames.size(); ++i) {
    if (name == kStateNames[i]) return static_cast<RunState>(i);
  }
  return std::nullopt;
}

bool IsFinal(RunState state) {
  return state == RunState::kSucceeded || state == RunState::kFailed ||
         state == RunState::kCancelled;
}

std::string EncodeJobState(const JobState& state) {
  Json replicas = Json::array();
  for (const ReplicaState& replica : state.replicas) replicas.push_back(EncodeReplica(replica));
  const Json json = {
      {"schemaVersion", kStateSchemaVersion},
      {"jobId", state.job_id},
      {"state", RunStateName(state.state)},
      {"errorMessage", state.error_message},
      {"createTime", TimeOrNull(state.create_ms)},
      {"startTime", TimeOrNull(state.start_ms)},
      {"endTime", TimeOrNull(state.end_ms)},
      {"updateTime", TimeOrNull(state.update_ms)},
      {"step", state.step},
      {"totalSteps", state.total_steps},
      {"metrics",
       {{"train_loss", NumberOrNull(state.metrics.train_loss)},
        {"validation_accuracy", NumberOrNull(state.metrics.validation_accuracy)},
        {"test_accuracy", NumberOrNull(state.metrics.test_accuracy)},
        {"samples_per_second", NumberOrNull(state.metrics.samples_per_second)}}},
      {"lastCheckpoint", EncodeCheckpoint(state.last_checkpoint)},
      {"bestCheckpoint", EncodeCheckpoint(state.best_checkpoint)},
      {"modelPath", state.model_path},
      {"resumedFrom", state.resumed_from < 0 ? Json(nullptr) : Json(state.resumed_from)},
      {"exact", state.exact},
      {"dollarsPerHour", state.dollars_per_hour},
      {"replicas", std::move(replicas)},
  };
  return DumpJsonForPeople(json);
}

absl::StatusOr<JobState> DecodeJobState(std::string_view text) {
  ASSIGN_OR_RETURN(const Json json, ParseJsonObject(text));
  Fields fields(json);
  RETURN_IF_ERROR(fields.ReadSchemaVersion(kStateSchemaVersion));
  fields.Require("state");
  JobState state;
  std::string name;
  fields.Read("state", &name);
  if (const std::optional<RunState> parsed = ParseRunState(name)) {
    state.state = *parsed;
  } else {
    fields.Fail("state", fmt::format("one of {}", fmt::join(kStateNames, ", ")));
  }
  fields.Read("jobId", &state.job_id);
  fields.Read("errorMessage", &state.error_message);
  fields.ReadTime("createTime", &state.create_ms);
  fields.ReadTime("startTime", &state.start_ms);
  fields.ReadTime("endTime", &state.end_ms);
  fields.ReadTime("updateTime", &state.update_ms);
  fields.Read("step", &state.step);
  fields.Read("totalSteps", &state.total_steps);
  DecodeMetrics(fields, &state.metrics);
  DecodeCheckpoint(fields, "lastCheckpoint", &state.last_checkpoint);
  DecodeCheckpoint(fields, "bestCheckpoint", &state.best_checkpoint);
  fields.Read("modelPath", &state.model_path);
  fields.Read("resumedFrom", &state.resumed_from);
  fields.Read("exact", &state.exact);
  fields.Read("dollarsPerHour", &state.dollars_per_hour);
  DecodeReplicas(fields, &state.replicas);
  RETURN_IF_ERROR(fields.status());
  return state;
}

absl::Status WriteJobState(const std::string& path, const JobState& state) {
  return WriteFileAtomically(path, EncodeJobState(state));
}

absl::StatusOr<JobState> ReadJobState(const std::string& path) {
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  absl::StatusOr<JobState> state = DecodeJobState(text);
  if (state.ok()) return state;
  return absl::Status(state.status().code(),
                      fmt::format("{}: {}", path, std::string(state.status().message())));
}

}  // namespace muster::master
