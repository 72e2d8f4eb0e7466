// When a job counts as idle, on a clock that the test moves; and what the kernel and nvidia-smi
// say.
#include "cluster/idle_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "cluster/machine_use.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using ::testing::HasSubstr;

constexpr IdleLimit kLimit{.busy_below = 0.3, .for_ms = 1'000};

TEST(IdleWatch, AllMachinesMustHaveBeenIdleForSoLong) {
  IdleWatch watch(kLimit, 2);
  watch.OnUse(0, 0.1, 0);
  EXPECT_FALSE(watch.IsIdle(5'000)) << "the other was never heard of";
  watch.OnUse(1, 0.3, 500);
  watch.OnUse(0, 0.2, 900);
  EXPECT_FALSE(watch.IsIdle(1'499));
  EXPECT_TRUE(watch.IsIdle(1'500));
  watch.OnUse(1, 0.31, 1'500);
  EXPECT_FALSE(watch.IsIdle(1'500));
  watch.OnUse(1, 0, 1'600);
  EXPECT_FALSE(watch.IsIdle(2'599)) << "it begins anew";
  EXPECT_TRUE(watch.IsIdle(2'600));
  watch.Reset();
  EXPECT_FALSE(watch.IsIdle(9'000));
  EXPECT_THAT(IdleReason(kLimit), HasSubstr("no machine was busier than 30 % for 1 s"));
}

TEST(IdleWatch, WithoutALimitNothingIsIdle) {
  IdleWatch watch({}, 1);
  watch.OnUse(0, 0, 0);
  EXPECT_FALSE(watch.IsIdle(1'000'000'000));
}

TEST(MachineUse, ProcessorsAreBusyWhenTheyNeitherRestNorWait) {
  const auto ticks = ParseCpuTicks("cpu  100 20 30 1000 50 4 6 10 70 0\ncpu0 1 2 3 4\n");
  ASSERT_TRUE(ticks.has_value());
  EXPECT_EQ(ticks->all, 1'220);
  EXPECT_EQ(ticks->busy, 170) << "guests' time is in the users' already";
  for (const char* text : {"", "cpu", "cpu 1 2 3", "cpu0 1 2 3 4 5 6 7", "cpu 1 2 x 4 5 6 7 8",
                           "cpu 1 2 3 -4 5 6 7 8"}) {
    EXPECT_FALSE(ParseCpuTicks(text).has_value()) << text;
  }
}

TEST(MachineUse, TheBusiestGpuCounts) {
  EXPECT_EQ(ParseGpuUse("3\n85\n0\n"), 0.85);
  EXPECT_EQ(ParseGpuUse("[N/A]\n"), 0);
  EXPECT_EQ(ParseGpuUse("nan\n1e9\n-4\n"), 0);
  EXPECT_EQ(ParseGpuUse(""), 0);
}

TEST(MachineUse, AShareIsAShareOfThisMachine) {
  MachineUse use({"PATH=/nowhere"}, 100);
  EXPECT_FALSE(use.Look(0).has_value()) << "there is nothing to compare with";
  EXPECT_FALSE(use.Look(99).has_value());
  // Until the kernel has counted a tick.
  std::optional<double> share;
  for (int64_t now = 100; !share; now += 100) share = use.Look(now);
  EXPECT_GE(*share, 0);
  EXPECT_LE(*share, 1);
}

TEST(MachineUse, GpusThatAreBusierThanTheProcessorsCount) {
  const harness::TemporaryFolder folder;
  const std::string program = folder.path() + "/nvidia-smi";
  std::ofstream(program)
      << "#!/bin/sh\n[ \"$1\" = --query-gpu=utilization.gpu ] && echo 3 && echo 100\n";
  std::filesystem::permissions(program, std::filesystem::perms::owner_all);
  MachineUse use({"PATH=" + folder.path() + ":/usr/bin:/bin"}, 1);
  double most = 0;
  for (int64_t now = 0; most < 1 && now < 2'000; now += 1) {
    if (const auto share = use.Look(now)) most = std::max(most, *share);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(most, 1);
}

}  // namespace
}  // namespace muster::cluster
