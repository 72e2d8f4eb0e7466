// RunHistory: the curves of a run, kept in <job-dir>/summaries/history.jsonl across resumes.
//
// One JSON object per line, appended. A resume at step S appends a line that voids all earlier
// points beyond S, since those steps are done again. RunHistory is a value type, thread-compatible;
// HistoryWriter is owned by one thread. Times are milliseconds since 1970.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "telemetry/status.h"

namespace muster::master {

// Mean training loss over the replicas at `step` (steps finished).
struct LossPoint {
  int64_t step = 0;
  double loss = 0;
  double learning_rate = 0;
  int64_t time_ms = 0;
};

struct EvaluationPoint {
  int64_t step = 0;
  std::string split;               // "training", "validation", "testing"
  double accuracy = 0;             // 0 … 1
  std::vector<int64_t> confusion;  // [true * classes + predicted]; may be empty
  int64_t time_ms = 0;
};

// What one replica did since its last point; the parts are of its process's wall time.
struct ThroughputPoint {
  int32_t replica = 0;
  int64_t step = 0;
  double samples_per_second = 0;
  double compute_ms = 0, push_ms = 0, wait_ms = 0, pull_ms = 0, data_ms = 0;
  int64_t missed = 0;  // steps that did without its gradient
  int64_t time_ms = 0;
};

// Something worth a line under the curves: a resume, a lost worker, a checkpoint that failed.
struct EventPoint {
  int64_t step = 0;
  std::string text;
  int64_t time_ms = 0;
};

struct RunHistory {
  std::vector<std::string> labels;  // by class index
  std::vector<LossPoint> losses;    // by rising step, as all below
  std::vector<EvaluationPoint> evaluations;
  std::vector<ThroughputPoint> throughput;
  std::vector<EventPoint> events;

  // The last evaluation of `split`, or null.
  const EvaluationPoint* Last(const std::string& split) const;
};

class HistoryWriter {
 public:
  // Appends to `path`, made when absent; cuts off a torn last line. `start_step`: 0, or the step
  // that the run resumes from.
  static absl::StatusOr<std::unique_ptr<HistoryWriter>> Open(const std::string& path,
                                                             int64_t start_step, int64_t now_ms);
  ~HistoryWriter();
  HistoryWriter(const HistoryWriter&) = delete;
  HistoryWriter& operator=(const HistoryWriter&) = delete;

  // Each appends one line, by one write. Fails when the disk does; the writer stays usable.
  absl::Status Labels(const std::vector<std::string>& labels);
  absl::Status Append(const LossPoint& point);
  absl::Status Append(const EvaluationPoint& point);
  absl::Status Append(const ThroughputPoint& point);
  absl::Status Append(const EventPoint& point);

 private:
  explicit HistoryWriter(int fd) : fd_(fd) {}
  absl::Status Line(const std::string& text);
  const int fd_;
  bool torn_ = false;  // the last write left a part of a line
};

// The history at `path`; an absent file has none. Lines that do not read are skipped and counted in
// `skipped` (if not null).
absl::StatusOr<RunHistory> ReadHistory(const std::string& path, int64_t* skipped);

}  // namespace muster::master
