#include "cluster/bill_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "cluster/bill.h"
#include "cluster/job_registry.h"
#include "cluster/printable.h"
#include "master/json_fields.h"
#include "telemetry/file.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

using master::Json;

constexpr int kSchemaVersion = 1;
constexpr int64_t kMaxBytes = 16 << 20;
constexpr double kHourMs = 3'600'000;

std::string PathOf(const std::string& job_dir) { return job_dir + "/bill.json"; }

absl::StatusOr<std::vector<RentedSpan>> Decode(std::string_view text) {
  ASSIGN_OR_RETURN(const Json json, master::ParseJsonObject(text));
  master::Fields fields(json);
  RETURN_IF_ERROR(fields.ReadSchemaVersion(kSchemaVersion));
  fields.Require("machines");
  const Json* machines = fields.Objects("machines");
  RETURN_IF_ERROR(fields.status());
  std::vector<RentedSpan> spans;
  for (const Json& object : *machines) {
    master::Fields row(object, fmt::format("machines[{}].", spans.size()));
    RentedSpan span;
    for (const char* name : {"id", "role", "usdPerHour", "began"}) row.Require(name);
    row.Read("id", &span.machine);
    row.Read("role", &span.role);
    row.Read("index", &span.index);
    row.Read("spot", &span.spot);
    row.Read("usdPerHour", &span.usd_per_hour);
    row.ReadTime("began", &span.began_ms);
    row.ReadTime("ended", &span.ended_ms);
    if (!std::isfinite(span.usd_per_hour) || span.usd_per_hour < 0) {
      row.Fail("usdPerHour", "a price");
    }
    if (Printable(span.machine + span.role) != span.machine + span.role) row.Fail("id", "a name");
    RETURN_IF_ERROR(row.status());
    spans.push_back(std::move(span));
  }
  return spans;
}

absl::Status WriteBill(const std::string& job_dir, const std::vector<RentedSpan>& spans) {
  Json machines = Json::array();
  for (const RentedSpan& span : spans) {
    Json row = {{"id", span.machine},
                {"role", span.role},
                {"index", span.index},
                {"spot", span.spot},
                {"usdPerHour", span.usd_per_hour},
                {"began", FormatTime(span.began_ms)}};
    if (span.ended_ms != 0) row["ended"] = FormatTime(span.ended_ms);
    machines.push_back(std::move(row));
  }
  return WriteFileAtomically(
      PathOf(job_dir), master::DumpJsonForPeople(
                           {{"schemaVersion", kSchemaVersion}, {"machines", std::move(machines)}}));
}

// Those that run and are meant; false when there is none.
template <class IsMeant>
bool EndSpans(const IsMeant& is_meant, int64_t now_ms, std::vector<RentedSpan>* spans) {
  bool changed = false;
  for (RentedSpan& span : *spans) {
    if (span.ended_ms != 0 || !is_meant(span)) continue;
    span.ended_ms = std::max(now_ms, span.began_ms);
    changed = true;
  }
  return changed;
}

int64_t EndOf(const RentedSpan& span, int64_t now_ms) {
  return std::max(span.began_ms, span.ended_ms == 0 ? now_ms : span.ended_ms);
}

}  // namespace

absl::StatusOr<std::vector<RentedSpan>> ReadBill(const std::string& job_dir) {
  const auto text = ReadSmallFile(PathOf(job_dir), kMaxBytes);
  if (absl::IsNotFound(text.status())) return std::vector<RentedSpan>();
  RETURN_IF_ERROR(text.status());
  auto spans = Decode(*text);
  if (spans.ok()) return spans;
  return absl::DataLossError(
      fmt::format("{}: {}", PathOf(job_dir), Printable(std::string(spans.status().message()))));
}

absl::Status NoteRented(const std::string& job_dir, const std::vector<RentedSpan>& spans) {
  ASSIGN_OR_RETURN(std::vector<RentedSpan> all, ReadBill(job_dir));
  all.insert(all.end(), spans.begin(), spans.end());
  return WriteBill(job_dir, all);
}

absl::Status NoteEnded(const std::string& job_dir, const std::string& machine, int64_t now_ms) {
  ASSIGN_OR_RETURN(std::vector<RentedSpan> all, ReadBill(job_dir));
  const bool changed =
      EndSpans([&](const RentedSpan& span) { return span.machine == machine; }, now_ms, &all);
  return changed ? WriteBill(job_dir, all) : absl::OkStatus();
}

absl::Status NoteReplaced(const std::string& job_dir, const std::string& machine,
                          const RentedSpan& by) {
  ASSIGN_OR_RETURN(std::vector<RentedSpan> all, ReadBill(job_dir));
  EndSpans([&](const RentedSpan& span) { return span.machine == machine; }, by.began_ms, &all);
  all.push_back(by);
  return WriteBill(job_dir, all);
}

absl::Status NoteGivenBack(const std::string& job_dir, int64_t now_ms) {
  ASSIGN_OR_RETURN(std::vector<RentedSpan> all, ReadBill(job_dir));
  const bool changed = EndSpans([](const RentedSpan&) { return true; }, now_ms, &all);
  return changed ? WriteBill(job_dir, all) : absl::OkStatus();
}

double CostOf(const RentedSpan& span, int64_t now_ms) {
  Bill bill;
  const size_t machine = bill.Begin(span.usd_per_hour, span.began_ms);
  bill.End(machine, EndOf(span, now_ms));
  return bill.Cost(EndOf(span, now_ms));
}

std::string BillText(const std::vector<RentedSpan>& spans, int64_t now_ms) {
  struct Sum {
    std::set<std::string> machines;
    double hours = 0, usd = 0;
    int64_t began_ms = 0, ended_ms = 0;
    bool goes_on = false;
  };
  std::vector<std::pair<std::pair<std::string, double>, Sum>> sums;  // by role and price
  double total = 0;
  for (const RentedSpan& span : spans) {
    const std::pair key(span.role + (span.spot ? " (spot)" : ""), span.usd_per_hour);
    auto it = std::ranges::find(sums, key, [](const auto& row) { return row.first; });
    if (it == sums.end()) it = sums.insert(sums.end(), {key, Sum{.began_ms = span.began_ms}});
    Sum& sum = it->second;
    const int64_t end = EndOf(span, now_ms);
    sum.machines.insert(span.machine);
    sum.hours += static_cast<double>(end - span.began_ms) / kHourMs;
    sum.usd += CostOf(span, now_ms);
    sum.began_ms = std::min(sum.began_ms, span.began_ms);
    sum.ended_ms = std::max(sum.ended_ms, end);
    sum.goes_on |= span.ended_ms == 0;
    total += CostOf(span, now_ms);
  }
  std::string text = fmt::format("{:<16} {:>8} {:>9} {:>8} {:>9}  {}\n", "role", "machines",
                                 "hours", "$/h", "$", "from, until");
  for (const auto& [key, sum] : sums) {
    text +=
        fmt::format("{:<16} {:>8} {:>9.2f} {:>8.3f} {:>9.2f}  {}, {}\n", key.first,
                    sum.machines.size(), sum.hours, key.second, sum.usd, FormatTime(sum.began_ms),
                    sum.goes_on ? "not given back yet" : FormatTime(sum.ended_ms));
  }
  text += fmt::format("{:<16} {:>8} {:>9} {:>8} {:>9.2f}\n", "all", "", "", "", total);
  return text;
}

}  // namespace muster::cluster
