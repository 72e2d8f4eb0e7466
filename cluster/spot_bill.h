// SpotBill: has a bill follow the prices of spot machines: asks for them from time to time, in a
// process beside the launcher.
//
// Owned by the launcher's main thread. Prices that have changed meanwhile count from when they did,
// so the bill is late and not wrong.
#pragma once

#include <poll.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cluster/bill.h"
#include "cluster/side_task.h"
#include "cluster/spot_prices.h"

namespace muster::cluster {

// Has machine `number` of the bill cost what `prices` say of its type and zone. `ahead_ms`: of Unix
// time, the bill's clock is.
void FollowPrices(const std::vector<SpotPrice>& prices, const std::string& type,
                  const std::string& zone, int64_t ahead_ms, size_t number, Bill* bill);

// When to ask again: every five minutes, every minute when the end by the budget is near.
int64_t NextAsking(int64_t asked_ms, int64_t stop_by_ms);

class SpotBill {
 public:
  using Ask = std::function<absl::StatusOr<std::vector<SpotPrice>>()>;
  // `ask`: runs in another process, where `keep` alone of the descriptors are open. `rent`: on
  // MonotonicMillis's clock.
  SpotBill(Ask ask, std::vector<int> keep, std::shared_ptr<Rent> rent)
      : ask_(std::move(ask)), keep_(std::move(keep)), rent_(std::move(rent)) {}

  void Add(size_t number, const std::string& type, const std::string& zone) {
    machines_.push_back({number, type, zone});
  }
  void Remove(size_t number) {
    std::erase_if(machines_, [&](const Machine& machine) { return machine.number == number; });
  }
  void Watch(std::vector<pollfd>* fds) const;
  void Tick();

 private:
  struct Machine {
    size_t number = 0;  // of the bill
    std::string type, zone;
  };
  void TakeLine(const std::string& line);

  const Ask ask_;
  const std::vector<int> keep_;
  const std::shared_ptr<Rent> rent_;
  std::vector<Machine> machines_;
  std::unique_ptr<SideTask> asking_;
  std::vector<SpotPrice> told_;  // of the answer that is coming
  int64_t next_ms_ = 0;
};

}  // namespace muster::cluster
