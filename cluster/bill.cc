#include "cluster/bill.h"

#include <algorithm>

namespace muster::cluster {
namespace {

constexpr double kHourMs = 3'600'000;

}  // namespace

size_t Bill::Begin(double usd_per_hour, int64_t now_ms) {
  machines_.push_back({.began_ms = now_ms, .prices = {{now_ms, usd_per_hour}}});
  return machines_.size() - 1;
}

double Bill::CostOf(const Machine& machine, int64_t now_ms) const {
  const int64_t until = machine.ended_ms < 0 ? now_ms : std::min(now_ms, machine.ended_ms);
  // Steps that begin before `ms`.
  const auto begun = [&](int64_t ms) {
    ms = std::min(ms, until + 1);
    return ms <= machine.began_ms ? 0 : (ms - 1 - machine.began_ms) / step_ms_ + 1;
  };
  double cost = 0;
  for (size_t i = 0; i < machine.prices.size(); ++i) {
    const bool last = i + 1 == machine.prices.size();
    const int64_t steps =
        begun(last ? until + 1 : machine.prices[i + 1].from_ms) - begun(machine.prices[i].from_ms);
    cost += static_cast<double>(steps * step_ms_) / kHourMs * machine.prices[i].usd_per_hour;
  }
  return cost;
}

void Bill::SetPrice(size_t machine, double usd_per_hour, int64_t from_ms) {
  std::vector<Price>& prices = machines_[machine].prices;
  from_ms = std::max(from_ms, machines_[machine].began_ms);
  std::erase_if(prices, [&](const Price& price) { return price.from_ms >= from_ms; });
  prices.push_back({from_ms, usd_per_hour});
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
  for (const Machine& machine : machines_)
    usd += machine.ended_ms < 0 ? machine.prices.back().usd_per_hour : 0;
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
