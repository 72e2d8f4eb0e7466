#include "master/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>

#include "master/report_chart.h"
#include "master/report_confusion.h"
#include "master/report_style.h"
#include "telemetry/time.h"

namespace muster::master {
namespace {

// Wall time of the run so far; 0 before it began.
int64_t Elapsed(const JobState& state) {
  const int64_t end = state.end_ms != 0 ? state.end_ms : state.update_ms;
  return state.start_ms == 0 ? 0 : std::max<int64_t>(0, end - state.start_ms);
}

std::string Number(std::string_view value, std::string_view what) {
  return fmt::format("<div><b>{}</b><span>{}</span></div>", EscapeHtml(value), EscapeHtml(what));
}

std::string Header(const ReportInput& input) {
  const JobState& state = input.state;
  std::string when;
  if (state.start_ms != 0) when = fmt::format("started {}", FormatTime(state.start_ms));
  if (state.end_ms != 0) when += fmt::format(", ended {}", FormatTime(state.end_ms));
  if (state.resumed_from >= 0) {
    when += fmt::format(", resumed from step {}", FormatCount(state.resumed_from));
  }
  if (!state.exact) when += ", not exact: the result is not a function of the job alone";
  std::string out = fmt::format(
      "<header><h1>{}</h1><span class=\"state {}\">{}</span><div class=\"when\">{}</div></header>",
      EscapeHtml(input.title), RunStateName(state.state), RunStateName(state.state),
      EscapeHtml(when));
  if (!state.error_message.empty()) {
    out += fmt::format("<div class=\"error\">{}</div>", EscapeHtml(state.error_message));
  }
  return out;
}

std::string Numbers(const JobState& state) {
  const JobMetrics& metrics = state.metrics;
  std::string out = "<div class=\"numbers\">";
  if (metrics.test_accuracy) out += Number(FormatPercent(*metrics.test_accuracy), "test accuracy");
  if (metrics.validation_accuracy) {
    out += Number(FormatPercent(*metrics.validation_accuracy), "validation accuracy");
  }
  if (metrics.train_loss) out += Number(FormatNumber(*metrics.train_loss), "training loss");
  out += Number(FormatCount(state.step),
                state.total_steps > 0 ? fmt::format("of {} steps", FormatCount(state.total_steps))
                                      : std::string("steps"));
  if (metrics.samples_per_second) {
    out += Number(FormatNumber(*metrics.samples_per_second), "samples per second");
  }
  const int64_t elapsed = Elapsed(state);
  if (elapsed > 0) out += Number(FormatDuration(elapsed), "training time");
  if (state.dollars_per_hour > 0) {
    const double cost = state.dollars_per_hour * static_cast<double>(elapsed) / 3'600'000;
    out += Number(fmt::format("${:.{}f}", cost, cost < 1 ? 4 : 2),
                  fmt::format("at ${:.2f} per hour, by the catalogue", state.dollars_per_hour));
  }
  return out + "</div>";
}

// Mean over a window of a twentieth of the curve around each point: it does not lag behind.
Series Smooth(const Series& raw, std::string name) {
  Series smooth{std::move(name), {}};
  std::vector<std::pair<double, double>> finite;
  for (const auto& point : raw.points) {
    if (std::isfinite(point.second)) finite.push_back(point);
  }
  const size_t reach = finite.size() / 40;
  double sum = 0;
  size_t begin = 0, end = 0;
  for (size_t i = 0; i < finite.size(); ++i) {
    // Narrower near the ends, so that the window stays around its point.
    const size_t half = std::min({reach, i, finite.size() - 1 - i});
    for (; end < i + half + 1; ++end) sum += finite[end].second;
    for (; begin < i - half; ++begin) sum -= finite[begin].second;
    for (; end > i + half + 1; --end) sum -= finite[end - 1].second;
    smooth.points.emplace_back(finite[i].first, sum / static_cast<double>(end - begin));
  }
  return smooth;
}

std::string LossChart(const RunHistory& history) {
  Series raw{"loss", {}};
  raw.faint = true;
  for (const LossPoint& point : history.losses) {
    raw.points.emplace_back(static_cast<double>(point.step), point.loss);
  }
  Series smooth = Smooth(raw, "smoothed");
  // The smoothed curve comes first for its colour.
  return RenderChart({"Training loss", "pale: as measured", false, {std::move(smooth), raw}});
}

std::string AccuracyChart(const RunHistory& history) {
  Chart chart{"Accuracy", "", true, {}};
  for (const char* split : {"training", "validation", "testing"}) {
    Series series{split, {}};
    series.dots = true;
    for (const EvaluationPoint& point : history.evaluations) {
      if (point.split != split) continue;
      series.points.emplace_back(static_cast<double>(point.step), point.accuracy);
    }
    if (!series.points.empty()) chart.series.push_back(std::move(series));
  }
  return RenderChart(chart);
}

std::string LearningRateChart(const RunHistory& history) {
  Series series{"learning rate", {}};
  double first = 0;
  bool changes = false;
  for (const LossPoint& point : history.losses) {
    if (series.points.empty()) first = point.learning_rate;
    changes = changes || point.learning_rate != first;
    series.points.emplace_back(static_cast<double>(point.step), point.learning_rate);
  }
  return changes ? RenderChart({"Learning rate", "", false, {std::move(series)}}) : "";
}

std::map<int32_t, std::vector<ThroughputPoint>> ByReplica(const RunHistory& history) {
  std::map<int32_t, std::vector<ThroughputPoint>> by_replica;
  for (const ThroughputPoint& point : history.throughput) {
    by_replica[point.replica].push_back(point);
  }
  return by_replica;
}

std::string ThroughputChart(const RunHistory& history) {
  Chart chart{"Throughput per replica", "samples/s", false, {}};
  for (const auto& [replica, points] : ByReplica(history)) {
    Series series{fmt::format("replica {}", replica), {}};
    for (const ThroughputPoint& point : points) {
      series.points.emplace_back(static_cast<double>(point.step), point.samples_per_second);
    }
    chart.series.push_back(std::move(series));
  }
  return RenderChart(chart);
}

// Where the wall time of each replica's process went, over the whole run.
std::string StepSplit(const RunHistory& history) {
  struct Part {
    const char* color;
    const char* name;
    double ThroughputPoint::*ms;
  };
  constexpr Part kParts[] = {{"s0", "computing", &ThroughputPoint::compute_ms},
                             {"s2", "pushing", &ThroughputPoint::push_ms},
                             {"s1", "waiting for parameters", &ThroughputPoint::wait_ms},
                             {"s3", "pulling", &ThroughputPoint::pull_ms},
                             {"s4", "waiting for data", &ThroughputPoint::data_ms}};
  std::string head, rows;
  int64_t all_missed = 0;
  for (const ThroughputPoint& point : history.throughput) all_missed += point.missed;
  for (const Part& part : kParts) {
    head +=
        fmt::format("<th class=\"n\"><span class=\"{}\">■</span> {}</th>", part.color, part.name);
  }
  if (all_missed > 0) head += "<th class=\"n\">steps that did without it</th>";
  for (const auto& [replica, points] : ByReplica(history)) {
    double sums[std::size(kParts)] = {}, all = 0;
    for (size_t i = 0; i < std::size(kParts); ++i) {
      for (const ThroughputPoint& point : points) sums[i] += point.*kParts[i].ms;
      all += sums[i];
    }
    if (!(all > 0)) continue;
    std::string bar, cells;
    for (size_t i = 0; i < std::size(kParts); ++i) {
      bar += fmt::format("<i class=\"{}\" style=\"width:{:.1f}%\"></i>", kParts[i].color,
                         100 * sums[i] / all);
      cells += fmt::format("<td class=\"n\">{}</td>", FormatPercent(sums[i] / all));
    }
    if (all_missed > 0) {
      int64_t missed = 0;
      for (const ThroughputPoint& point : points) missed += point.missed;
      cells += fmt::format("<td class=\"n\">{}</td>", FormatCount(missed));
    }
    rows += fmt::format("<tr><td>replica {}</td><td><div class=\"bar\">{}</div></td>{}</tr>",
                        replica, bar, cells);
  }
  if (rows.empty()) return "";
  return "<h2>Where the time of a step goes</h2><div class=\"card\"><table><tr><th></th><th></th>" +
         head + "</tr>" + rows + "</table></div>";
}

std::string Plan(const ReportInput& input) {
  if (input.plan.empty()) return "";
  std::string out =
      "<h2>Plan</h2><div class=\"card\"><table><tr><th>role</th><th class=\"n\">count</th>"
      "<th>&nbsp;&nbsp;machine</th><th class=\"n\">$ per hour</th></tr>";
  double sum = 0;
  for (const PlanRow& row : input.plan) {
    sum += row.dollars_per_hour;
    out += fmt::format(
        "<tr><td>{}</td><td class=\"n\">{}</td><td>&nbsp;&nbsp;{} <small>{}</small></td>"
        "<td class=\"n\">{}</td></tr>",
        EscapeHtml(row.role), row.count, EscapeHtml(row.machine_type), EscapeHtml(row.detail),
        row.dollars_per_hour > 0 ? fmt::format("{:.4f}", row.dollars_per_hour) : "–");
  }
  if (input.plan.size() > 1 && sum > 0) {
    out += fmt::format("<tr><td>all</td><td></td><td></td><td class=\"n\"><b>{:.4f}</b></td></tr>",
                       sum);
  }
  return out + "</table></div>";
}

std::string Pairs(std::string_view title,
                  const std::vector<std::pair<std::string, std::string>>& pairs) {
  if (pairs.empty()) return "";
  std::string out = fmt::format("<h2>{}</h2><div class=\"card\"><table>", EscapeHtml(title));
  for (const auto& [name, value] : pairs) {
    out += fmt::format("<tr><td>{}</td><td>{}</td></tr>", EscapeHtml(name), EscapeHtml(value));
  }
  return out + "</table></div>";
}

std::string Replicas(const JobState& state) {
  if (state.replicas.empty()) return "";
  std::string out =
      "<h2>Replicas</h2><div class=\"card\"><table><tr><th>role</th><th>state</th>"
      "<th class=\"n\">pid</th><th>&nbsp;&nbsp;host</th><th>device</th></tr>";
  for (const ReplicaState& replica : state.replicas) {
    out += fmt::format(
        "<tr><td>{} {}</td><td>{}{}</td><td class=\"n\">{}</td><td>&nbsp;&nbsp;{}</td>"
        "<td>{}</td></tr>",
        EscapeHtml(replica.role), replica.index, EscapeHtml(replica.state),
        replica.detail.empty() ? "" : EscapeHtml(": " + replica.detail),
        fmt::join(replica.pids, ", "), EscapeHtml(replica.host), EscapeHtml(replica.device));
  }
  return out + "</table></div>";
}

std::string Events(const RunHistory& history) {
  if (history.events.empty()) return "";
  std::string out =
      "<h2>Events</h2><div class=\"card\"><table><tr><th>when</th><th class=\"n\">step</th>"
      "<th>&nbsp;&nbsp;what</th></tr>";
  for (const EventPoint& event : history.events) {
    out += fmt::format("<tr><td>{}</td><td class=\"n\">{}</td><td>&nbsp;&nbsp;{}</td></tr>",
                       event.time_ms == 0 ? "" : FormatTime(event.time_ms), FormatCount(event.step),
                       EscapeHtml(event.text));
  }
  return out + "</table></div>";
}

}  // namespace

std::string RenderReport(const ReportInput& input) {
  const RunHistory& history = input.history;
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">"
      "<title>{} – Muster</title><style>{}</style></head><body><main>",
      EscapeHtml(input.title), kReportStyle);
  out += Header(input);
  out += Numbers(input.state);
  out += "<div class=\"charts\">";
  out += LossChart(history);
  out += AccuracyChart(history);
  out += ThroughputChart(history);
  out += LearningRateChart(history);
  out += "</div>";
  out += StepSplit(history);
  if (input.trace) {
    out +=
        "<p>A trace of some steps: <a href=\"trace.json\">trace.json</a>, for chrome://tracing or "
        "ui.perfetto.dev.</p>";
  }
  out += RenderConfusion(history);
  out += "<div class=\"two\"><section>";
  out += Plan(input);
  out += Pairs("Not done as the file says", input.substitutions);
  out += "</section><section>";
  out += Pairs("Settings", input.settings);
  out += "</section></div>";
  out += Replicas(input.state);
  out += Events(history);
  out += fmt::format(
      "<footer>Written by Muster, {}.</footer></main><script>{}</script></body></html>\n",
      FormatTime(input.state.update_ms), kReportScript);
  return out;
}

}  // namespace muster::master
