#include "master/history.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "master/json_fields.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::master {
namespace {

// Size of the whole lines at the start of `fd`.
absl::StatusOr<off_t> WholeLines(int fd, const std::string& path) {
  off_t end = lseek(fd, 0, SEEK_END);
  while (end > 0) {
    char buffer[4096];
    const off_t begin = std::max<off_t>(0, end - static_cast<off_t>(sizeof(buffer)));
    const ssize_t n = pread(fd, buffer, static_cast<size_t>(end - begin), begin);
    if (n <= 0) return ErrnoStatus(errno, fmt::format("cannot read {}", path));
    for (ssize_t i = n; i > 0; --i) {
      if (buffer[i - 1] == '\n') return begin + i;
    }
    end = begin;
  }
  return off_t{0};
}

template <typename Point>
void DropBeyond(int64_t step, std::vector<Point>* points) {
  std::erase_if(*points, [step](const Point& point) { return point.step > step; });
}

void StartRun(const Json& json, Fields& fields, RunHistory* history) {
  int64_t step = 0, time_ms = 0;
  fields.Read("step", &step);
  fields.ReadTime("time", &time_ms);
  DropBeyond(step, &history->losses);
  DropBeyond(step, &history->evaluations);
  DropBeyond(step, &history->throughput);
  if (step > 0) {
    history->events.push_back({step, fmt::format("resumed at step {}", step), time_ms});
  } else if (json.value("again", false)) {
    history->events.push_back({0, "started again from the beginning", time_ms});
  }
}

// Adds one line; false when it does not read.
bool AddLine(std::string_view line, RunHistory* history) {
  const absl::StatusOr<Json> json = ParseJsonObject(line);
  if (!json.ok()) return false;
  Fields fields(*json);
  std::string kind;
  fields.Read("kind", &kind);
  const auto read_common = [&](auto* point) {
    fields.Read("step", &point->step);
    fields.ReadTime("time", &point->time_ms);
  };
  if (kind == "run") {
    StartRun(*json, fields, history);
  } else if (kind == "labels") {
    fields.Read("labels", &history->labels);
  } else if (kind == "loss") {
    LossPoint point;
    read_common(&point);
    fields.Read("loss", &point.loss);
    fields.Read("learningRate", &point.learning_rate);
    if (fields.status().ok()) history->losses.push_back(point);
  } else if (kind == "evaluation") {
    EvaluationPoint point;
    read_common(&point);
    fields.Read("split", &point.split);
    fields.Read("accuracy", &point.accuracy);
    fields.Read("confusion", &point.confusion);
    if (fields.status().ok()) history->evaluations.push_back(std::move(point));
  } else if (kind == "throughput") {
    ThroughputPoint point;
    read_common(&point);
    fields.Read("replica", &point.replica);
    fields.Read("samplesPerSecond", &point.samples_per_second);
    fields.Read("computeMs", &point.compute_ms);
    fields.Read("pushMs", &point.push_ms);
    fields.Read("waitMs", &point.wait_ms);
    fields.Read("pullMs", &point.pull_ms);
    fields.Read("dataMs", &point.data_ms);
    fields.Read("missed", &point.missed);
    if (fields.status().ok()) history->throughput.push_back(point);
  } else if (kind == "event") {
    EventPoint point;
    read_common(&point);
    fields.Read("text", &point.text);
    if (fields.status().ok()) history->events.push_back(std::move(point));
  }
  return fields.status().ok();
}

}  // namespace

const EvaluationPoint* RunHistory::Last(const std::string& split) const {
  for (auto it = evaluations.rbegin(); it != evaluations.rend(); ++it) {
    if (it->split == split) return &*it;
  }
  return nullptr;
}

absl::StatusOr<std::unique_ptr<HistoryWriter>> HistoryWriter::Open(const std::string& path,
                                                                   int64_t start_step,
                                                                   int64_t now_ms) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) return ErrnoStatus(errno, fmt::format("cannot open {}", path));
  std::unique_ptr<HistoryWriter> writer(new HistoryWriter(fd));
  ASSIGN_OR_RETURN(const off_t whole, WholeLines(fd, path));
  if (ftruncate(fd, whole) != 0) return ErrnoStatus(errno, fmt::format("cannot write {}", path));
  Json line = {{"kind", "run"}, {"step", start_step}, {"time", FormatTime(now_ms)}};
  if (whole > 0 && start_step == 0) line["again"] = true;
  RETURN_IF_ERROR(writer->Line(DumpJson(line)));
  return writer;
}

HistoryWriter::~HistoryWriter() { close(fd_); }

absl::Status HistoryWriter::Line(const std::string& text) {
  // After a torn write the rest of that line must end before this one begins.
  const std::string line = fmt::format("{}{}\n", torn_ ? "\n" : "", text);
  const ssize_t n = write(fd_, line.data(), line.size());
  if (n == static_cast<ssize_t>(line.size())) {
    torn_ = false;
    return absl::OkStatus();
  }
  const int error = n < 0 ? errno : ENOSPC;
  if (n > 0) torn_ = true;
  return ErrnoStatus(error, "cannot write the run's history");
}

absl::Status HistoryWriter::Labels(const std::vector<std::string>& labels) {
  return Line(DumpJson({{"kind", "labels"}, {"labels", labels}}));
}

absl::Status HistoryWriter::Append(const LossPoint& point) {
  return Line(DumpJson({{"kind", "loss"},
                        {"step", point.step},
                        {"loss", point.loss},
                        {"learningRate", point.learning_rate},
                        {"time", FormatTime(point.time_ms)}}));
}

absl::Status HistoryWriter::Append(const EvaluationPoint& point) {
  return Line(DumpJson({{"kind", "evaluation"},
                        {"step", point.step},
                        {"split", point.split},
                        {"accuracy", point.accuracy},
                        {"confusion", point.confusion},
                        {"time", FormatTime(point.time_ms)}}));
}

absl::Status HistoryWriter::Append(const ThroughputPoint& point) {
  return Line(DumpJson({{"kind", "throughput"},
                        {"replica", point.replica},
                        {"step", point.step},
                        {"samplesPerSecond", point.samples_per_second},
                        {"computeMs", point.compute_ms},
                        {"pushMs", point.push_ms},
                        {"waitMs", point.wait_ms},
                        {"pullMs", point.pull_ms},
                        {"dataMs", point.data_ms},
                        {"missed", point.missed},
                        {"time", FormatTime(point.time_ms)}}));
}

absl::Status HistoryWriter::Append(const EventPoint& point) {
  return Line(DumpJson({{"kind", "event"},
                        {"step", point.step},
                        {"text", point.text},
                        {"time", FormatTime(point.time_ms)}}));
}

absl::StatusOr<RunHistory> ReadHistory(const std::string& path, int64_t* skipped) {
  if (skipped != nullptr) *skipped = 0;
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) return RunHistory();
  RETURN_IF_ERROR(text.status());
  RunHistory history;
  std::string_view rest = *text;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (!line.empty() && !AddLine(line, &history) && skipped != nullptr) ++*skipped;
  }
  return history;
}

}  // namespace muster::master
