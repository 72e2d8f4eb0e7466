#include "cluster/spot_bill.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr int64_t kAskMs = 300'000, kAskNearEndMs = 60'000, kNearEndMs = 900'000;

}  // namespace

void FollowPrices(const std::vector<SpotPrice>& prices, const std::string& type,
                  const std::string& zone, int64_t ahead_ms, size_t number, Bill* bill) {
  std::vector<SpotPrice> its;
  for (const SpotPrice& price : prices) {
    if (price.type == type && price.zone == zone) its.push_back(price);
  }
  std::ranges::sort(its, {}, &SpotPrice::since_ms);
  for (const SpotPrice& price : its) {
    bill->SetPrice(number, price.usd_per_hour, price.since_ms + ahead_ms);
  }
}

int64_t NextAsking(int64_t asked_ms, int64_t stop_by_ms) {
  const bool near = stop_by_ms != Bill::kNever && stop_by_ms - asked_ms < kNearEndMs;
  return asked_ms + (near ? kAskNearEndMs : kAskMs);
}

void SpotBill::Watch(std::vector<pollfd>* fds) const {
  if (asking_ != nullptr) fds->push_back({asking_->fd(), POLLIN, 0});
}

void SpotBill::TakeLine(const std::string& line) {
  const std::vector<std::string> cells = absl::StrSplit(line, '\t');
  SpotPrice price;
  if (cells.size() != 4 || !absl::SimpleAtod(cells[2], &price.usd_per_hour) ||
      !absl::SimpleAtoi(cells[3], &price.since_ms)) {
    return;
  }
  price.type = cells[0];
  price.zone = cells[1];
  told_.push_back(std::move(price));
}

void SpotBill::Tick() {
  if (machines_.empty()) return;
  const int64_t now_ms = MonotonicMillis();
  if (asking_ != nullptr) {
    if (asking_->Read([this](const std::string& line) { TakeLine(line); })) return;
    asking_.reset();
    const int64_t ahead_ms = MonotonicMillis() - UnixMillis();
    for (const Machine& machine : machines_) {
      FollowPrices(told_, machine.type, machine.zone, ahead_ms, machine.number, &rent_->bill);
    }
    next_ms_ = NextAsking(now_ms, rent_->StopBy(now_ms));
    return;
  }
  if (now_ms < next_ms_) return;
  next_ms_ = now_ms + kAskNearEndMs;  // when nobody can be asked now
  told_.clear();
  auto asking = SideTask::Start(
      [this](const SideTask::Tell& tell) {
        const auto prices = ask_();
        if (!prices.ok()) return;
        for (const SpotPrice& price : *prices) {
          tell(fmt::format("{}\t{}\t{}\t{}", price.type, price.zone, price.usd_per_hour,
                           price.since_ms));
        }
      },
      keep_);
  if (asking.ok()) asking_ = *std::move(asking);
}

}  // namespace muster::cluster
