// JobState: what <job-dir>/state.json holds, for people, scripts and the launcher (docs/state.md
// documents every field).
//
// A value type, thread-compatible. One writer at a time: the launcher before the master starts and
// after it is gone, the master between. Times are milliseconds since 1970, 0 when not yet.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "telemetry/status.h"

namespace muster::master {

inline constexpr int kStateSchemaVersion = 1;

// JobState of the training contract, by its names: QUEUED, PREPARING …
enum class RunState { kQueued, kPreparing, kRunning, kSucceeded, kFailed, kCancelling, kCancelled };
const char* RunStateName(RunState state);
std::optional<RunState> ParseRunState(std::string_view name);
// True for SUCCEEDED, FAILED and CANCELLED.
bool IsFinal(RunState state);

// One replica of the job's cluster: the master, a worker or a parameter server. The chief trainer
// runs on the master's machine and its pid stands in the master's entry, so a job with nine workers
// and three servers has 13 entries.
struct ReplicaState {
  std::string role;  // "master", "worker", "ps"
  int index = 0;
  std::vector<int64_t> pids;       // of its processes; master: coordinator, then chief trainer
  std::string state = "EXPECTED";  // EXPECTED, REGISTERED, READY, FINISHED, LEFT, LOST
  int64_t last_seen_ms = 0;
  std::string host;
  std::vector<std::string> metrics;  // "127.0.0.1:43567": where its processes show them
  std::string device;                // "/gpu:0: NVIDIA H200, 139 GiB, …"; "/cpu:0: 2 threads"
  std::vector<int32_t> leases;       // logical replicas that it trains
  int64_t step = 0;                  // trainers: steps finished
  std::string detail;                // how it ended, when that was not in order
};

// Absent: not measured yet.
struct JobMetrics {
  std::optional<double> train_loss;
  std::optional<double> validation_accuracy;  // of the last evaluation, 0 … 1
  std::optional<double> test_accuracy;
  std::optional<double> samples_per_second;  // of the whole job, since the last point
};

struct CheckpointSummary {
  std::string path;  // relative to the job directory: "checkpoints/step-400"
  int64_t step = 0;
  std::optional<double> validation_accuracy;
};

struct JobState {
  std::string job_id;
  RunState state = RunState::kQueued;
  int64_t create_ms = 0, start_ms = 0,
          end_ms = 0;     // start: RUNNING began; a resume keeps create and sets the others anew
  int64_t update_ms = 0;  // when this file was written
  int64_t step = 0;       // the global step: least clock over the replicas
  int64_t total_steps = 0;
  JobMetrics metrics;
  std::vector<ReplicaState> replicas;
  std::string error_message;  // empty unless FAILED or CANCELLED by a limit
  std::optional<CheckpointSummary> last_checkpoint, best_checkpoint;
  std::string model_path;  // relative: "export/model.onnx"; empty until exported
  int64_t resumed_from =
      -1;             // step of the checkpoint that this run started from; -1: from the start
  bool exact = true;  // false: the result is not a function of the job alone (docs/state.md)
  double dollars_per_hour = 0;  // by the catalogue; 0: not known
};

// As JSON text, and back. Reading takes unknown fields and absent ones, and fails on text that is
// not JSON, a field of another type, or a newer schemaVersion, naming the field.
std::string EncodeJobState(const JobState& state);
absl::StatusOr<JobState> DecodeJobState(std::string_view text);

// state.json at `path`, replaced atomically; read with errors that name the path.
absl::Status WriteJobState(const std::string& path, const JobState& state);
absl::StatusOr<JobState> ReadJobState(const std::string& path);

}  // namespace muster::master
