// Bill: what a job's machines have cost so far, and when they must be given back so that it stays
// below a limit.
//
// A machine is charged for each billing step that it has begun, at the price of the moment when the
// step began, which may be heard of later (spot):
//
//   cost(t) = Σ machines Σ steps k with began + k · step ≤ t of price(began + k · step) · step
//
// which is at least what the clouds charge (they count seconds after a first minute). Owned by one
// thread; times in milliseconds of any clock, prices in US dollars per hour.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace muster::cluster {

class Bill {
 public:
  explicit Bill(int64_t step_ms = 60'000) : step_ms_(step_ms) {}

  // Returns the machine's number.
  size_t Begin(double usd_per_hour, int64_t now_ms);
  // Of the steps that begin at `from_ms` or later.
  void SetPrice(size_t machine, double usd_per_hour, int64_t from_ms);
  void End(size_t machine, int64_t now_ms);

  double Cost(int64_t now_ms) const;
  // Of the machines that have not ended.
  double PerHour() const;
  // The last moment at which giving back all machines may begin, if that takes `teardown_ms`, for
  // the cost to be at most `max_cost` at these prices. Before `now_ms` when it is too late already;
  // kNever when nothing costs.
  int64_t StopBy(double max_cost, int64_t teardown_ms, int64_t now_ms) const;
  static constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

 private:
  struct Price {
    int64_t from_ms = 0;
    double usd_per_hour = 0;
  };
  struct Machine {
    int64_t began_ms = 0;
    std::vector<Price> prices;  // the first from began_ms on; each until the next
    int64_t ended_ms = -1;      // -1: it runs
  };

  double CostOf(const Machine& machine, int64_t now_ms) const;

  const int64_t step_ms_;
  std::vector<Machine> machines_;
};

// What a job's machines cost and may cost; on MonotonicMillis's clock.
struct Rent {
  // For the last step, its checkpoint, and giving back.
  static constexpr int64_t kTeardownMs = 90'000;

  Bill bill;
  double max_cost = 0;  // cluster.budget.maxCost; 0: no limit

  // When the job must begin to end.
  int64_t StopBy(int64_t now_ms) const {
    return max_cost > 0 ? bill.StopBy(max_cost, kTeardownMs, now_ms) : Bill::kNever;
  }
};

}  // namespace muster::cluster
