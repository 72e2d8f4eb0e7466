// RunRecord: everything that a run leaves for people: state.json, history, TensorBoard events,
// status lines to the launcher, report.html.
//
// Owned by one thread (the coordinator's). A record that cannot be written never stops a run: it is
// logged once and tried again.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "master/history.h"
#include "master/job_directory.h"
#include "master/job_state.h"
#include "master/membership.h"
#include "master/report.h"
#include "master/status_line.h"
#include "telemetry/log.h"
#include "telemetry/tensorboard.h"

namespace muster::master {

class RunRecord {
 public:
  struct Options {
    JobDirectory dir{""};
    Log* log = nullptr;
    std::function<void(const StatusLine&)> on_status;
    std::function<int64_t()> now_ms;
    int64_t start_step = 0;  // resumed from, or 0
    std::vector<std::string> labels;
    ReportInput report;  // title, plan, settings, substitutions; state and history are filled in
  };
  // `state` holds what is known at the start: id, total steps, replicas.
  RunRecord(Options options, JobState state);

  JobState& state() { return state_; }  // change, then Touch()

  void SetState(RunState run_state, const std::string& text) { SetState({run_state, text}); }
  void SetState(const StateLine& line);
  void Message(MessageLine::Level level, const std::string& text);
  void AddLoss(const LossPoint& point, double samples_per_second,
               std::vector<LaggingReplica> lagging);
  // Tells the launcher who lags while there is no progress to tell.
  void AddLagging(std::vector<LaggingReplica> lagging);
  void AddThroughput(const ThroughputPoint& point);
  void AddEvaluation(EvaluationPoint point);
  // What becomes of a role now; `text`: how it ended, when that was not in order.
  void AddReplica(const Member& member, const std::string& text = "");
  void AddEvent(int64_t step, const std::string& text);
  void SetResult(ResultLine line);

  // Writes state.json when something has changed and the last write is older than a second, or at
  // once with `now`.
  void Flush(bool now);
  // Renders report.html from the history on disk.
  void WriteReport();

 private:
  void Complain(const absl::Status& status);

  const Options options_;
  JobState state_;
  std::unique_ptr<HistoryWriter> history_;
  std::unique_ptr<SummaryWriter> summaries_;
  bool dirty_ = true;
  int64_t written_ms_ = 0;
  std::string complained_;  // the last failure that was logged
};

}  // namespace muster::master
