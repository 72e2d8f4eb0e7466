// StatusLine: what the master tells its launcher, one JSON object per line on a pipe (fd kStatusFd
// of the master process).
//
// Order that the launcher relies on:
//  1. ListeningLine is the first line, once the master accepts roles.
//  2. A StateLine with a final state (or CANCELLING) is written before the master tells any role to
//     stop: until then a role that exits is a failure of the job.
//  3. ResultLine comes before StateLine SUCCEEDED.
// Value types, thread-compatible. Steps count finished steps.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "master/job_state.h"
#include "telemetry/status.h"

namespace muster::master {

inline constexpr int kStatusFd = 3;

struct ListeningLine {
  std::string address;  // where roles connect: "127.0.0.1:43567"
};

struct StateLine {
  RunState state = RunState::kPreparing;
  std::string text;  // stage, for people: "reading data", "evaluating"; FAILED: the error
  // FAILED: what the user gave is wrong (data directory, flags, job directory): exit code 2.
  bool wrong_input = false;
};

// A replica that holds the others up.
struct LaggingReplica {
  std::string role;  // "chief", "worker"
  int index = 0;
  int64_t steps_behind = 0;
  int64_t silent_ms = 0;  // since it was last heard of
};

struct ProgressLine {
  int64_t step = 0, total_steps = 0;
  std::optional<double> loss;
  std::optional<double> validation_accuracy;  // newest
  std::optional<double> samples_per_second;
  std::vector<LaggingReplica> lagging;
};

// A role changed its state. Roles are processes here: "chief" 0 is the trainer on the master's
// machine.
struct ReplicaLine {
  std::string role;  // "chief", "worker", "ps"
  int index = 0;
  std::string state;  // EXPECTED, REGISTERED, READY, FINISHED, LEFT, LOST
  int64_t pid = 0;
  std::string host;
  std::string device;
  std::string text;  // LOST: why
};

struct MessageLine {
  enum class Level { kInfo, kWarning, kError };
  Level level = Level::kInfo;
  std::string text;
};

struct ResultLine {
  int64_t step = 0;
  std::optional<double> validation_accuracy, test_accuracy;
  std::string confusion;   // as text, several lines; may be empty
  std::string model_path;  // full path of export/model.onnx; empty: not exported
  std::string checkpoint;  // full path of the last one; empty: none
};

// A line of a kind that this build does not know.
struct UnknownLine {};

using StatusLine = std::variant<UnknownLine, ListeningLine, StateLine, ProgressLine, ReplicaLine,
                                MessageLine, ResultLine>;

// Whether `status` says that what the user gave is invalid, not there or refused: exit code 2.
bool SaysWrongInput(const absl::Status& status);

// The StateLine of a job that ends because of `status` (CANCELLED or FAILED). Only before training
// has begun it may be the user's input that is wrong.
StateLine EndedBy(const absl::Status& status, bool training_began);

// One line without its line break.
std::string EncodeStatusLine(const StatusLine& line);

// Takes unknown fields; absent ones have their defaults; an unknown kind is UnknownLine. Fails on
// what is not a JSON object, a known field of another type, or an unknown state name.
absl::StatusOr<StatusLine> DecodeStatusLine(std::string_view text);

}  // namespace muster::master
