// What machines cost, and that a limit holds: against a bill that is counted a step at a time.
#include "cluster/bill.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "cluster/spot_bill.h"

namespace muster::cluster {
namespace {

constexpr int64_t kMinute = 60'000, kHour = 60 * kMinute;

TEST(Bill, EveryStepThatHasBegunIsCharged) {
  Bill bill;
  EXPECT_EQ(bill.Cost(0), 0);
  const size_t machine = bill.Begin(/*usd_per_hour=*/60, 1000);
  EXPECT_DOUBLE_EQ(bill.Cost(1000), 1);
  EXPECT_DOUBLE_EQ(bill.Cost(1000 + kMinute - 1), 1);
  EXPECT_DOUBLE_EQ(bill.Cost(1000 + kMinute), 2);
  EXPECT_DOUBLE_EQ(bill.PerHour(), 60);
  bill.End(machine, 1000 + kMinute);
  EXPECT_DOUBLE_EQ(bill.Cost(1000 + kHour), 2);
  EXPECT_DOUBLE_EQ(bill.PerHour(), 0);
}

TEST(Bill, ANewPriceCountsFromTheNextStepOn) {
  Bill bill;
  const size_t machine = bill.Begin(60, 0);
  bill.SetPrice(machine, 120, kMinute / 2);
  EXPECT_DOUBLE_EQ(bill.Cost(kMinute / 2), 1);
  EXPECT_DOUBLE_EQ(bill.Cost(kMinute), 3);
  EXPECT_DOUBLE_EQ(bill.Cost(2 * kMinute), 5);
}

TEST(Bill, APriceThatIsHeardOfLateCountsFromWhenItWasSet) {
  Bill bill;
  const size_t machine = bill.Begin(60, 0);
  EXPECT_DOUBLE_EQ(bill.Cost(5 * kMinute), 6);
  bill.SetPrice(machine, 120, 2 * kMinute);
  EXPECT_DOUBLE_EQ(bill.Cost(5 * kMinute), 2 + 8);
  bill.SetPrice(machine, 30, 4 * kMinute);
  EXPECT_DOUBLE_EQ(bill.Cost(5 * kMinute), 2 + 4 + 1);
  EXPECT_DOUBLE_EQ(bill.PerHour(), 30);
  // The same again, with what was before it began.
  const auto since = [](int64_t ms, double usd) { return SpotPrice{"t", "r", "z", ms, usd}; };
  FollowPrices({since(4 * kMinute - 7, 30), since(-kHour - 7, 999), since(-9, 60),
                since(2 * kMinute - 7, 120), SpotPrice{"t", "r", "another", 0, 999}},
               "t", "z", /*ahead_ms=*/7, machine, &bill);
  EXPECT_DOUBLE_EQ(bill.Cost(5 * kMinute), 2 + 4 + 1);
}

TEST(Bill, PricesAreAskedForMoreOftenWhenTheEndIsNear) {
  EXPECT_EQ(NextAsking(0, Bill::kNever), 5 * kMinute);
  EXPECT_EQ(NextAsking(0, kHour), 5 * kMinute);
  EXPECT_EQ(NextAsking(kHour, kHour + 10 * kMinute), kHour + kMinute);
}

TEST(Bill, TheLastMomentToStopLeavesTimeToGiveBack) {
  Bill bill;
  EXPECT_EQ(bill.StopBy(1, kMinute, 0), Bill::kNever) << "nothing costs anything";
  bill.Begin(60, 0);
  // Ten steps: the last begins at 9 min, and ends before 10 min.
  EXPECT_EQ(bill.StopBy(10, 0, 0), 10 * kMinute - 1);
  EXPECT_EQ(bill.StopBy(10, 90'000, 0), 10 * kMinute - 90'000 - 1);
  EXPECT_EQ(bill.StopBy(10, 90'000, 5 * kMinute), 10 * kMinute - 90'000 - 1);
  EXPECT_LT(bill.StopBy(10, 90'000, 9 * kMinute), 9 * kMinute) << "too late";
  EXPECT_LT(bill.StopBy(0.5, 0, 0), 0) << "not even a first step";
}

// A cloud that charges by the same rule, counted plainly.
class Cloud {
 public:
  void Begin(double price, int64_t now) { machines_.push_back({now, price}); }
  void SetPrice(size_t machine, double price) { machines_[machine].price = price; }
  void Tick(int64_t now) {
    for (Machine& machine : machines_) {
      if ((now - machine.began) % kMinute == 0) cost_ += machine.price / 60;
    }
  }
  double cost() const { return cost_; }

 private:
  struct Machine {
    int64_t began;
    double price;
  };
  std::vector<Machine> machines_;
  double cost_ = 0;
};

TEST(Bill, SpotPricesThatChangeExceedNoLimitByMoreThanHalfAPercent) {
  double worst = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const auto uniform = [&](double least, double most) {
      return std::uniform_real_distribution<double>(least, most)(random);
    };
    const double hours = uniform(2, 6);
    const auto machines = 1 + random() % 12;
    constexpr int64_t kTeardownMs = 90'000;
    std::vector<double> prices(machines);
    double per_hour = 0;
    for (double& price : prices) per_hour += price = uniform(0.1, 5);
    const double limit = per_hour * hours;
    Bill bill;
    Cloud cloud;
    // The launcher hears of prices when it asks for them.
    std::vector<SpotPrice> history;
    const auto zone = [](size_t machine) { return std::to_string(machine); };
    int64_t ask_ms = 0;
    size_t begun = 0;
    int64_t stop_ms = -1;  // when giving back began
    for (int64_t now = 0; stop_ms < 0 || now < stop_ms + kTeardownMs; now += 1000) {
      ASSERT_LT(now, 24 * kHour) << "it is never stopped";
      // Machines come within the first minute, and change their price now and then.
      while (begun < machines && static_cast<int64_t>(begun) * 5000 <= now) {
        bill.Begin(prices[begun], now);
        cloud.Begin(prices[begun], now);
        ++begun;
      }
      for (size_t i = 0; i < begun; ++i) {
        if (random() % 600 != 0) continue;
        prices[i] = std::clamp(prices[i] * uniform(0.8, 1.25), 0.05, 10.0);
        cloud.SetPrice(i, prices[i]);
        history.push_back({"t", "r", zone(i), now, prices[i]});
      }
      cloud.Tick(now);
      if (now >= ask_ms) {
        for (size_t i = 0; i < begun; ++i) FollowPrices(history, "t", zone(i), 0, i, &bill);
        ask_ms = NextAsking(now, bill.StopBy(limit, kTeardownMs, now));
        ASSERT_NEAR(bill.Cost(now), cloud.cost(), 1e-6);
      }
      if (stop_ms < 0 && begun == machines && now > bill.StopBy(limit, kTeardownMs, now) - 1000) {
        stop_ms = now;
      }
    }
    worst = std::max(worst, cloud.cost() / limit - 1);
    EXPECT_LE(cloud.cost(), limit * 1.005);
    EXPECT_GE(cloud.cost(), limit * 0.95) << "stopped far too early";
  }
  std::printf("at worst %.3f %% above the limit\n", 100 * worst);
}

}  // namespace
}  // namespace muster::cluster
