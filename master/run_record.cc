#include "master/run_record.h"

#include <filesystem>
#include <system_error>

#include "telemetry/file.h"

namespace muster::master {
namespace {

constexpr int64_t kStateIntervalMs = 1000;

}  // namespace

RunRecord::RunRecord(Options options, JobState state)
    : options_(std::move(options)), state_(std::move(state)) {
  const int64_t now = options_.now_ms();
  if (auto history = HistoryWriter::Open(options_.dir.history(), options_.start_step, now);
      history.ok()) {
    history_ = *std::move(history);
    Complain(history_->Labels(options_.labels));
  } else {
    Complain(history.status());
  }
  const int64_t resume_step = options_.start_step > 0 ? options_.start_step + 1 : -1;
  if (auto summaries = SummaryWriter::Create(options_.dir.summaries(), now, resume_step);
      summaries.ok()) {
    summaries_ = *std::move(summaries);
  } else {
    Complain(summaries.status());
  }
}

void RunRecord::Complain(const absl::Status& status) {
  if (status.ok() || complained_ == status.message()) return;
  complained_ = std::string(status.message());
  options_.log->Warning("the record of the run is incomplete: {}", complained_);
}

void RunRecord::SetState(const StateLine& line) {
  const int64_t now = options_.now_ms();
  if (line.state == RunState::kRunning && state_.start_ms == 0) state_.start_ms = now;
  if (IsFinal(line.state)) state_.end_ms = now;
  state_.state = line.state;
  if (line.state == RunState::kFailed || line.state == RunState::kCancelled) {
    state_.error_message = line.text;
  }
  options_.on_status(line);
  Flush(true);
}

void RunRecord::Message(MessageLine::Level level, const std::string& text) {
  options_.log->Write(level == MessageLine::Level::kInfo      ? Log::Level::kInfo
                      : level == MessageLine::Level::kWarning ? Log::Level::kWarning
                                                              : Log::Level::kError,
                      text);
  options_.on_status(MessageLine{level, text});
}

void RunRecord::AddLoss(const LossPoint& point, double samples_per_second,
                        std::vector<LaggingReplica> lagging) {
  if (history_ != nullptr) Complain(history_->Append(point));
  if (summaries_ != nullptr) {
    Complain(summaries_->Scalar("train/loss", point.step, point.loss, point.time_ms));
    Complain(
        summaries_->Scalar("train/learning_rate", point.step, point.learning_rate, point.time_ms));
    if (samples_per_second > 0) {
      Complain(summaries_->Scalar("train/samples_per_second", point.step, samples_per_second,
                                  point.time_ms));
    }
  }
  state_.step = point.step;
  state_.metrics.train_loss = point.loss;
  if (samples_per_second > 0) state_.metrics.samples_per_second = samples_per_second;
  dirty_ = true;
  options_.on_status(ProgressLine{point.step, state_.total_steps, point.loss,
                                  state_.metrics.validation_accuracy,
                                  state_.metrics.samples_per_second, std::move(lagging)});
}

void RunRecord::AddLagging(std::vector<LaggingReplica> lagging) {
  options_.on_status(ProgressLine{state_.step, state_.total_steps, state_.metrics.train_loss,
                                  state_.metrics.validation_accuracy,
                                  state_.metrics.samples_per_second, std::move(lagging)});
}

void RunRecord::AddThroughput(const ThroughputPoint& point) {
  if (history_ != nullptr) Complain(history_->Append(point));
}

void RunRecord::AddEvaluation(EvaluationPoint point) {
  point.time_ms = options_.now_ms();
  if (history_ != nullptr) Complain(history_->Append(point));
  if (summaries_ != nullptr) {
    Complain(
        summaries_->Scalar(point.split + "/accuracy", point.step, point.accuracy, point.time_ms));
  }
  (point.split == "testing" ? state_.metrics.test_accuracy : state_.metrics.validation_accuracy) =
      point.accuracy;
  options_.log->Info("step {}: {} accuracy {:.2f} %", point.step, point.split,
                     100 * point.accuracy);
  Flush(true);
  options_.on_status(ProgressLine{state_.step,
                                  state_.total_steps,
                                  state_.metrics.train_loss,
                                  state_.metrics.validation_accuracy,
                                  state_.metrics.samples_per_second,
                                  {}});
}

void RunRecord::AddReplica(const Member& member, const std::string& text) {
  dirty_ = true;
  options_.on_status(ReplicaLine{KindName(member.role.kind), member.role.index,
                                 MemberStateName(member.state), member.pid, member.host,
                                 member.device, text});
}

void RunRecord::AddEvent(int64_t step, const std::string& text) {
  if (history_ != nullptr) Complain(history_->Append(EventPoint{step, text, options_.now_ms()}));
}

void RunRecord::SetResult(ResultLine line) {
  Flush(true);
  options_.on_status(std::move(line));
}

void RunRecord::Flush(bool now) {
  const int64_t time = options_.now_ms();
  if (!now && (!dirty_ || time - written_ms_ < kStateIntervalMs)) return;
  state_.update_ms = time;
  const absl::Status status = WriteJobState(options_.dir.state_json(), state_);
  Complain(status);
  dirty_ = !status.ok();
  written_ms_ = time;
}

void RunRecord::WriteReport() {
  auto history = ReadHistory(options_.dir.history(), nullptr);
  if (!history.ok()) return Complain(history.status());
  ReportInput input = options_.report;
  input.state = state_;
  input.history = *std::move(history);
  std::error_code error;
  input.trace = std::filesystem::exists(options_.dir.trace_json(), error);
  Complain(WriteFileAtomically(options_.dir.report_html(), RenderReport(input)));
}

}  // namespace muster::master
