// Truth tables of the consistency modes.
#include "ps/consistency.h"

#include <gtest/gtest.h>

namespace muster::ps {
namespace {

std::unique_ptr<const ConsistencyPolicy> Make(const std::string& mode, int64_t staleness = 0) {
  auto policy = MakeConsistencyPolicy(mode, staleness);
  EXPECT_TRUE(policy.ok()) << policy.status();
  return *std::move(policy);
}

struct PushRow {
  const char* what;
  SliceState state;  // version, clocks, next_replica
  ReplicaId v;
  int64_t step;
  Verdict expected;
};

TEST(BspTest, FoldsInReplicaOrderAndAppliesWithTheLast) {
  const auto policy = Make("BSP");
  const PushRow rows[] = {
      {"first replica starts the sum", {0, {0, 0, 0}, 0}, 0, 0, Verdict::kFold},
      {"second before first waits", {0, {0, 0, 0}, 0}, 1, 0, Verdict::kHold},
      {"last before first waits", {0, {0, 0, 0}, 0}, 2, 0, Verdict::kHold},
      {"second after first", {0, {1, 0, 0}, 1}, 1, 0, Verdict::kFold},
      {"last after first waits for second", {0, {1, 0, 0}, 1}, 2, 0, Verdict::kHold},
      {"last after second applies", {0, {1, 1, 0}, 2}, 2, 0, Verdict::kApply},
      {"last after second, second held before", {7, {8, 8, 7}, 2}, 2, 7, Verdict::kApply},
      {"repeated within the step", {0, {1, 0, 0}, 1}, 0, 0, Verdict::kDrop},
      {"repeated while held", {0, {0, 1, 0}, 0}, 1, 0, Verdict::kDrop},
      {"repeated after the apply", {1, {1, 1, 1}, 0}, 2, 0, Verdict::kDrop},
      {"long past", {9, {9, 9, 9}, 0}, 0, 3, Verdict::kDrop},
      {"a step ahead of the slice waits", {0, {1, 0, 0}, 1}, 0, 1, Verdict::kHold},
      {"alone, every push applies", {4, {4}, 0}, 0, 4, Verdict::kApply},
  };
  for (const PushRow& row : rows) {
    EXPECT_EQ(policy->OnPush(row.state, row.v, row.step), row.expected) << row.what;
  }
}

TEST(BspTest, HeldGradientsComeWhenItIsTheirTurn) {
  const auto policy = Make("BSP");
  const PushRow rows[] = {
      {"not yet", {0, {0, 1, 1}, 0}, 1, 0, Verdict::kHold},
      {"after the first", {0, {1, 1, 1}, 1}, 1, 0, Verdict::kFold},
      {"not before its turn", {0, {1, 1, 1}, 1}, 2, 0, Verdict::kHold},
      {"the last one applies", {0, {1, 1, 1}, 2}, 2, 0, Verdict::kApply},
      {"a step ahead, still not", {0, {2, 1, 0}, 2}, 0, 1, Verdict::kHold},
      {"a step ahead, after the apply", {1, {2, 1, 1}, 0}, 0, 1, Verdict::kFold},
  };
  for (const PushRow& row : rows) {
    EXPECT_EQ(policy->OnHeld(row.state, row.v, row.step), row.expected) << row.what;
  }
}

TEST(SspAndAsyncTest, ApplyAtOnceWhoeverComes) {
  for (const char* mode : {"SSP", "ASYNC"}) {
    const auto policy = Make(mode, 2);
    const PushRow rows[] = {
        {"first", {0, {0, 0, 0}, 0}, 0, 0, Verdict::kApply},
        {"last before first", {0, {0, 0, 0}, 0}, 2, 0, Verdict::kApply},
        {"far ahead of the others", {5, {5, 0, 0}, 0}, 0, 5, Verdict::kApply},
        {"far behind the others", {9, {5, 4, 0}, 0}, 2, 0, Verdict::kApply},
        {"repeated", {1, {1, 0, 0}, 0}, 0, 0, Verdict::kDrop},
        {"repeated, long past", {12, {5, 4, 3}, 0}, 0, 2, Verdict::kDrop},
    };
    for (const PushRow& row : rows) {
      EXPECT_EQ(policy->OnPush(row.state, row.v, row.step), row.expected) << mode << row.what;
    }
  }
}

TEST(ConsistencyTest, WhoMayRead) {
  struct Row {
    const char* mode;
    int64_t staleness, clock, min_clock;
  };
  const Row rows[] = {
      {"BSP", 0, 0, 0},   {"BSP", 0, 1, 1},   {"BSP", 0, 7, 7},   {"SSP", 0, 0, 0},
      {"SSP", 0, 7, 7},   {"SSP", 3, 0, 0},   {"SSP", 3, 2, 0},   {"SSP", 3, 3, 0},
      {"SSP", 3, 4, 1},   {"SSP", 3, 10, 7},  {"ASYNC", 0, 0, 0}, {"ASYNC", 0, 7, 0},
      {"ASYNC", 3, 9, 0}, {"ASYNC", 0, 1, 0},
  };
  for (const Row& row : rows) {
    EXPECT_EQ(Make(row.mode, row.staleness)->MinClockToRead(row.clock), row.min_clock)
        << row.mode << " staleness " << row.staleness << " clock " << row.clock;
  }
}

TEST(ConsistencyTest, OnlyBspIsExactAndAllAverage) {
  EXPECT_TRUE(Make("BSP")->exact());
  EXPECT_FALSE(Make("SSP", 1)->exact());
  EXPECT_FALSE(Make("ASYNC")->exact());
  for (const char* mode : {"BSP", "SSP", "ASYNC"}) {
    EXPECT_EQ(Make(mode)->Scale(0, 4), 0.25f);
    EXPECT_EQ(Make(mode)->Scale(3, 4), 0.25f);
    EXPECT_STREQ(Make(mode)->name(), mode);
  }
}

TEST(ConsistencyTest, AsyncMayDivideByStaleness) {
  const auto policy = *MakeConsistencyPolicy("ASYNC", 0, /*scale_by_staleness=*/true);
  EXPECT_EQ(policy->Scale(0, 4), 0.25f);
  EXPECT_EQ(policy->Scale(1, 4), 0.25f);
  EXPECT_EQ(policy->Scale(2, 4), 0.125f);
  EXPECT_EQ(policy->Scale(8, 1), 0.125f);
}

TEST(ConsistencyTest, WithBackupWorkersEveryGradientWaitsForTheQuorum) {
  const auto policy = *MakeConsistencyPolicy("BSP", 0, false, /*backups=*/1);
  const SliceState state{5, {5, 5, 6}, 0};
  EXPECT_EQ(policy->OnPush(state, 0, 5), Verdict::kHold);
  EXPECT_EQ(policy->OnPush(state, 1, 5), Verdict::kHold);
  EXPECT_EQ(policy->OnPush(state, 2, 5), Verdict::kDrop) << "it came before";
  EXPECT_EQ(policy->OnPush(state, 0, 4), Verdict::kDrop);
  EXPECT_EQ(policy->OnHeld({5, {6, 6, 6}, 0}, 0, 5), Verdict::kHold);
  EXPECT_EQ(policy->MinClockToRead(7), 7);
  EXPECT_EQ(policy->Scale(0, 3), 0.5f) << "the mean of those that count";
  EXPECT_TRUE(policy->exact());
  EXPECT_EQ(policy->backups(), 1);
  EXPECT_EQ(Make("BSP")->backups(), 0);
}

TEST(ConsistencyTest, UnknownModesAndBadBoundsAreRefused) {
  EXPECT_EQ(MakeConsistencyPolicy("bsp", 0).status().message(),
            "unknown consistency mode 'bsp'; write one of BSP, SSP, ASYNC");
  EXPECT_EQ(MakeConsistencyPolicy("SSP", -1).status().message(),
            "consistency.staleness is -1; it must be 0 or more");
  EXPECT_EQ(MakeConsistencyPolicy("SSP", 1, false, 1).status().message(),
            "consistency.backupWorkers is 1 under SSP; only BSP has them, 0 or more");
  EXPECT_FALSE(MakeConsistencyPolicy("BSP", 0, false, -1).ok());
}

TEST(ConsistencyTest, TheLeastClock) {
  EXPECT_EQ((SliceState{0, {3, 1, 2}, 0}).min_clock(), 1);
  EXPECT_EQ(SliceState{}.min_clock(), 0);
}

}  // namespace
}  // namespace muster::ps
