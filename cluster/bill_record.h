// bill.json of a job's directory: the machines that its launches have rented, each from when to
// when at which price. Written by launchers; stays on their machine.
//
// Free functions over values and one small file, replaced whole: thread-safe. Times are
// milliseconds since 1970, prices US dollars per hour by the plan.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "telemetry/status.h"

namespace muster::cluster {

// A machine that changes its price is several of these.
struct RentedSpan {
  std::string machine;  // the provider's id
  std::string role;     // "worker"
  int index = 0;        // within the role
  bool spot = false;
  double usd_per_hour = 0;  // 0: not known, or nothing
  int64_t began_ms = 0;
  int64_t ended_ms = 0;  // 0: not yet
};

// None where there is no file. Fails in one line when it does not read.
absl::StatusOr<std::vector<RentedSpan>> ReadBill(const std::string& job_dir);
// Adds spans that have begun.
absl::Status NoteRented(const std::string& job_dir, const std::vector<RentedSpan>& spans);
// Ends the span of one machine; OK when it has none that has not ended.
absl::Status NoteEnded(const std::string& job_dir, const std::string& machine, int64_t now_ms);
// The same, and adds that of another in its place.
absl::Status NoteReplaced(const std::string& job_dir, const std::string& machine,
                          const RentedSpan& by);
// Ends all that have not ended; OK when there are none.
absl::Status NoteGivenBack(const std::string& job_dir, int64_t now_ms);

// Each minute that it has begun counts whole, as Bill counts.
double CostOf(const RentedSpan& span, int64_t now_ms);

// For people, by role: machines, hours, price, cost, from when to when; with a sum.
std::string BillText(const std::vector<RentedSpan>& spans, int64_t now_ms);

}  // namespace muster::cluster
