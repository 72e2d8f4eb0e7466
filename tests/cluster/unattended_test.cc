// What a keeper does with its roles while no launcher is there, on a clock that the test moves.
#include "cluster/unattended.h"

#include <gtest/gtest.h>

#include <vector>

namespace muster::cluster {
namespace {

using Action = Unattended::Action;

class UnattendedTest : public ::testing::Test {
 protected:
  // Moves the clock to `ms` in steps; what was to be done, and when.
  std::vector<std::pair<int64_t, Action>> Until(Unattended& job, int64_t ms) {
    std::vector<std::pair<int64_t, Action>> done;
    for (; now_ < ms; now_ += 100) {
      if (const auto action = job.Tick(now_)) done.emplace_back(now_, *action);
    }
    return done;
  }
  using Done = std::vector<std::pair<int64_t, Action>>;

  int64_t now_ = 0;
  const Unattended::Options options_{.max_running_ms = 50'000,
                                     .patience_ms = 10'000,
                                     .drain_ms = 20'000,
                                     .terminate_ms = 2'000,
                                     .around_ms = 30'000};
};

TEST_F(UnattendedTest, WithItsLauncherNothingIsDone) {
  Unattended job(options_, /*stay=*/false, 0);
  job.OnRunning(0);
  job.OnEnd(10);
  EXPECT_EQ(Until(job, 200'000), Done());
}

TEST_F(UnattendedTest, AJobThatIsNotToStayEndsWithItsLauncher) {
  Unattended job(options_, /*stay=*/false, 0);
  job.OnLauncher(false);
  EXPECT_EQ(Until(job, 200'000), (Done{{0, Action::kKillAll}}));
}

TEST_F(UnattendedTest, AJobThatWasLeftGoesOnUntilItsTimeIsOver) {
  Unattended job(options_, /*stay=*/false, 0);
  job.OnRunning(5'000);
  job.Stay();
  job.OnLauncher(false);
  EXPECT_EQ(Until(job, 200'000), (Done{{55'000, Action::kInterruptMaster},
                                       {75'000, Action::kTerminateAll},
                                       {77'000, Action::kKillAll}}));
  EXPECT_TRUE(job.time_is_over());
}

TEST_F(UnattendedTest, WhereNobodySaysThatItTrainsThereIsALastMoment) {
  Unattended job(options_, /*stay=*/true, 1'000);
  job.OnLauncher(false);
  EXPECT_EQ(Until(job, 200'000),
            (Done{{81'000, Action::kTerminateAll}, {83'000, Action::kKillAll}}));
}

TEST_F(UnattendedTest, WithoutARunningTimeItGoesOn) {
  Unattended::Options options = options_;
  options.max_running_ms = 0;
  Unattended job(options, /*stay=*/true, 0);
  job.OnRunning(0);
  job.OnLauncher(false);
  EXPECT_EQ(Until(job, 1'000'000), Done());
}

TEST_F(UnattendedTest, WhenARoleEndsTheOthersFollow) {
  Unattended job(options_, /*stay=*/true, 0);
  job.OnRunning(0);
  job.OnLauncher(false);
  EXPECT_EQ(Until(job, 5'000), Done());
  job.OnEnd(5'000);
  job.OnEnd(6'000);
  EXPECT_EQ(Until(job, 200'000),
            (Done{{15'000, Action::kTerminateAll}, {17'000, Action::kKillAll}}));
  EXPECT_FALSE(job.time_is_over());
}

TEST_F(UnattendedTest, ALauncherThatComesBackTakesOver) {
  Unattended job(options_, /*stay=*/true, 0);
  job.OnRunning(0);
  job.OnLauncher(false);
  Until(job, 40'000);
  job.OnLauncher(true);
  EXPECT_EQ(Until(job, 60'000), Done());
  job.OnLauncher(false);
  EXPECT_EQ(Until(job, 61'000), (Done{{60'000, Action::kInterruptMaster}}));
}

TEST_F(UnattendedTest, AMasterThatWasToldIsNotToldTwice) {
  // A second time it would stop without a checkpoint.
  Unattended job(options_, /*stay=*/true, 0);
  job.OnRunning(0);
  job.OnInterrupt(49'000);
  job.OnLauncher(false);
  EXPECT_EQ(Until(job, 200'000),
            (Done{{69'000, Action::kTerminateAll}, {71'000, Action::kKillAll}}));
}

TEST_F(UnattendedTest, ASignalEndsItInOrderWhetherItIsFollowedOrNot) {
  for (const bool followed : {false, true}) {
    now_ = 0;
    Unattended job(options_, /*stay=*/true, 0);
    job.OnLauncher(followed);
    job.OnTerminate();
    EXPECT_EQ(Until(job, 1'000), (Done{{0, Action::kInterruptMaster}}));
    job.OnTerminate();
    EXPECT_EQ(Until(job, 2'000), Done());
  }
}

}  // namespace
}  // namespace muster::cluster
