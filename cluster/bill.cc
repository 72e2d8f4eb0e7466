#include "cluster/bill.h"

#include <algorithm>

namespace muster::cluster {
namespace {

constexpr double kHourMs = 3'600'000;

}  // namespace

size_t Bill::Begin(double usd_per_hour, int64_t now_ms) {
  machines_.push_back({.usd_per_hour = usd_per_hour, .next_ms = now_ms});
  return machines_.size() - 1;
}

double Bill::CostOf(const Machine& machine, int64_t now_ms) const {
  const int64_t until = machine.ended_ms < 0 ? now_ms : std::min(now_ms, machine.ended_ms);
  if (until < machine.next_ms) return machine.charged;
  const int64_t steps = (until - machine.next_ms) / step_ms_ + 1;
  return machine.charged + static_cast<double>(steps * step_ms_) / kHourMs * machine.usd_per_hour;
}

void Bill::Charge(Machine& machine, int64_t now_ms) const {
  if (now_ms < machine.next_ms) return;
  machine.charged = CostOf(machine, now_ms);
  machine.next_ms += ((now_ms - machine.next_ms) / step_ms_ + 1) * step_ms_;
}

void Bill::SetPrice(size_t machine, double usd_per_hour, int64_t now_ms) {
  if (machines_[machine].ended_ms >= 0) return;
  Charge(machines_[machine], now_ms);
  machines_[machine].usd_per_hour = usd_per_hour;
}

void Bill::End(size_t machine, int64_t now_ms) {
  if (machines_[machine].ended_ms < 0) machines_[machine].ended_ms = now_ms;
}

double Bill::Cost(int64_t now_ms) const {
  double cost = 0;
  for (const Machine& machine : machines_) cost += CostOf(machine, now_ms);
  return cost;
}

double Bill::PerHour() const {
  double usd = 0;
  for (const Machine& machine : machines_) usd += machine.ended_ms < 0 ? machine.usd_per_hour : 0;
  return usd;
}

int64_t Bill::StopBy(double max_cost, int64_t teardown_ms, int64_t now_ms) const {
  const double per_hour = PerHour();
  if (per_hour <= 0) return kNever;
  const auto fits = [&](int64_t stop_ms) { return Cost(stop_ms + teardown_ms) <= max_cost; };
  if (!fits(now_ms)) return now_ms - 1;
  // Cost grows with time: the last moment that fits lies between one that does and one that cannot.
  const double left_ms = (max_cost - Cost(now_ms)) / per_hour * kHourMs;
  if (left_ms > 1e15) return kNever;
  int64_t good = now_ms, bad = now_ms + static_cast<int64_t>(left_ms) + 2 * step_ms_;
  while (bad - good > 1) {
    const int64_t middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

}  // namespace muster::cluster
