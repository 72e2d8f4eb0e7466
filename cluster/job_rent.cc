#include "cluster/job_rent.h"

#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "telemetry/time.h"

namespace muster::cluster {

JobRent::JobRent(Options options) : options_(std::move(options)) {
  rent_->max_cost = options_.max_cost;
}

RentedSpan JobRent::SpanOf(const Machine& machine, int64_t began_ms) const {
  return {.machine = machine.id,
          .role = RoleName(machine.role),
          .index = machine.index,
          .spot = machine.spot,
          .usd_per_hour = PriceOf(machine.role),
          .began_ms = began_ms};
}

std::vector<size_t> JobRent::Begin(const std::vector<Machine>& machines, int64_t began_ms) {
  std::vector<size_t> numbers;
  std::vector<RentedSpan> spans;
  const int64_t began_unix_ms = UnixMillis() - (MonotonicMillis() - began_ms);
  for (const Machine& machine : machines) {
    numbers.push_back(rent_->bill.Begin(PriceOf(machine.role), began_ms));
    spans.push_back(SpanOf(machine, began_unix_ms));
  }
  if (options_.billed && !spans.empty()) {
    std::error_code error;
    std::filesystem::create_directories(options_.job_dir, error);
    Warn(NoteRented(options_.job_dir, spans));
  }
  return numbers;
}

std::vector<size_t> JobRent::Resume(const LeftMachines& left,
                                    const std::vector<RentedSpan>& spans) {
  const int64_t now = MonotonicMillis(), ahead_ms = now - UnixMillis();
  std::map<std::string, size_t> by_id;
  for (const RentedSpan& span : SpansOfLastRun(spans)) {
    const size_t number = rent_->bill.Begin(span.usd_per_hour, span.began_ms + ahead_ms);
    if (span.ended_ms != 0) rent_->bill.End(number, span.ended_ms + ahead_ms);
    by_id[span.machine] = number;
  }
  std::vector<size_t> numbers;
  for (const Machine& machine : left.by_host) {
    const auto known = by_id.find(machine.id);
    const double price = machine.id.empty() ? 0 : PriceOf(machine.role);
    numbers.push_back(known != by_id.end() ? known->second : rent_->bill.Begin(price, now));
  }
  return numbers;
}

void JobRent::NoteLost(const Machine& machine) const {
  if (options_.billed) Warn(NoteEnded(options_.job_dir, machine.id, UnixMillis()));
}

void JobRent::NoteReplaced(const Machine& lost, const Machine& by) const {
  if (!options_.billed) return;
  Warn(cluster::NoteReplaced(options_.job_dir, lost.id, SpanOf(by, UnixMillis())));
}

void JobRent::NoteGivenBack() const {
  Warn(cluster::NoteGivenBack(options_.job_dir, UnixMillis()));
}

void JobRent::Warn(const absl::Status& status) const {
  if (!status.ok()) options_.say("warning: " + std::string(status.message()));
}

}  // namespace muster::cluster
