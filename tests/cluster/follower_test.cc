#include "cluster/follower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace muster::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Action = Follower::Action;
using master::RunState;

constexpr ExitStatus kOk{0, 0}, kExit1{1, 0}, kKilled{0, 9};
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

FollowerOptions Options() {
  FollowerOptions options;
  options.job_id = "job";
  options.roles = {{"master", 0, "trainingInput.masterType"},
                   {"worker", 0, "trainingInput.workerCount"},
                   {"ps", 0, "trainingInput.parameterServerCount"}};
  return options;
}

// All roles run and are registered; RUNNING at `now`.
Follower Running(int64_t now = 0, FollowerOptions options = Options()) {
  Follower follower(std::move(options), now);
  follower.OnStarted(0, now);
  follower.OnLine(master::ListeningLine{"127.0.0.1:1"}, now);
  for (size_t role : {1, 2}) follower.OnStarted(role, now);
  follower.OnLine(master::ReplicaLine{.role = "worker", .index = 0, .state = "READY"}, now);
  follower.OnLine(master::ReplicaLine{.role = "ps", .index = 0, .state = "READY"}, now);
  follower.OnLine(master::StateLine{RunState::kRunning, "training"}, now);
  return follower;
}

void EndAll(Follower& follower, ExitStatus status, int64_t now) {
  for (size_t role : {1, 2, 0}) follower.OnExit(role, status, now);
}

TEST(FollowerTest, ARunThatSucceeds) {
  Follower follower = Running();
  follower.OnLine(master::ResultLine{.test_accuracy = 0.5}, 10);
  follower.OnLine(master::StateLine{RunState::kSucceeded, ""}, 10);
  EndAll(follower, kOk, 20);
  EXPECT_TRUE(follower.done());
  EXPECT_EQ(follower.outcome(), RunState::kSucceeded);
  EXPECT_EQ(follower.exit_code(), 0);
  EXPECT_EQ(follower.result()->test_accuracy, 0.5);
  EXPECT_THAT(follower.TakeActions(), IsEmpty());
}

TEST(FollowerTest, ARoleThatLeavesWithoutHavingBeenToldIsAFailureEvenWithCode0) {
  Follower follower = Running();
  follower.OnExit(1, kOk, 100);
  EXPECT_EQ(follower.failure()->text,
            "worker-0 exited with code 0 (asked for by trainingInput.workerCount)");
  EXPECT_EQ(follower.failure()->role, 1u);
  EXPECT_THAT(follower.TakeActions(), IsEmpty());
  EXPECT_EQ(follower.NextDeadline(), 400);
  follower.OnTick(400);
  EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kTerminateAll));
  EXPECT_EQ(follower.NextDeadline(), 2400);
  follower.OnTick(2400);
  EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kKillAll));
  EndAll(follower, kKilled, 2500);
  EXPECT_EQ(follower.outcome(), RunState::kFailed);
  EXPECT_EQ(follower.exit_code(), 1);
  EXPECT_THAT(follower.failure()->text, HasSubstr("worker-0"));
}

TEST(FollowerTest, AWorkerThatLeavesIsNoFailure) {
  Follower follower = Running();
  follower.OnLine(master::ReplicaLine{.role = "worker", .index = 0, .state = "LEFT"}, 100);
  follower.OnExit(1, kOk, 110);
  follower.OnTick(1000);
  EXPECT_THAT(follower.TakeActions(), IsEmpty());
  EXPECT_THAT(follower.TakeMessages(), IsEmpty()) << "the master says what there is to say";
  EXPECT_FALSE(follower.done());
  follower.OnLine(master::StateLine{RunState::kSucceeded, ""}, 2000);
  for (size_t role : {2, 0}) follower.OnExit(role, kOk, 2010);
  EXPECT_TRUE(follower.done());
  EXPECT_EQ(follower.exit_code(), 0);
}

TEST(FollowerTest, ARoleThatIsAwayWithItsHostMayComeBackOrBeMissingAtTheEnd) {
  Follower follower = Running();
  follower.OnAway(1);
  EXPECT_FALSE(follower.failure());
  EXPECT_TRUE(follower.goes_on());
  EXPECT_EQ(follower.Display(10).ready_roles, 2);
  follower.OnStarted(1, 100);
  follower.OnLine(master::ReplicaLine{.role = "worker", .index = 0, .state = "READY"}, 110);
  EXPECT_EQ(follower.Display(110).ready_roles, 3);
  follower.OnAway(1);
  follower.OnLine(master::StateLine{RunState::kSucceeded, ""}, 120);
  EXPECT_FALSE(follower.goes_on());
  follower.OnExit(2, kOk, 130);
  EXPECT_FALSE(follower.done());
  follower.OnExit(0, kOk, 130);
  EXPECT_TRUE(follower.done());
  EXPECT_EQ(follower.exit_code(), 0);
}

TEST(FollowerTest, OnlyOfAWorkerAndOnlyWhileItTrainsARunCanDoWithoutTheHost) {
  Follower early(Options(), 0);
  EXPECT_FALSE(early.CanDoWithout(1));
  Follower follower = Running();
  EXPECT_FALSE(follower.CanDoWithout(0));
  EXPECT_TRUE(follower.CanDoWithout(1));
  EXPECT_FALSE(follower.CanDoWithout(2));
  follower.OnInterrupt(10);
  EXPECT_FALSE(follower.CanDoWithout(1));
}

TEST(FollowerTest, AWorkerThatIsKilledIsSparedIfTheMasterGoesOn) {
  Follower follower = Running();
  follower.OnExit(1, kKilled, 100);
  EXPECT_THAT(follower.TakeMessages(),
              ElementsAre("warning: worker-0 was killed by signal 9 (Killed)"));
  follower.OnTick(1000);
  EXPECT_THAT(follower.TakeActions(), IsEmpty());
  EXPECT_FALSE(follower.failure().has_value());
  // Another one in its place.
  follower.OnStarted(1, 1100);
  EXPECT_FALSE(follower.registered(1));
  EXPECT_FALSE(follower.done());
  follower.OnLine(master::StateLine{RunState::kFailed, "for another reason"}, 9000);
  EndAll(follower, kOk, 9010);
  EXPECT_EQ(follower.failure()->text, "for another reason");
}

TEST(FollowerTest, AWorkerThatIsKilledIsToBlameIfTheMasterGivesUpThen) {
  Follower follower = Running();
  follower.OnExit(1, kKilled, 100);
  follower.OnLine(master::StateLine{RunState::kFailed, "worker-0 is gone"}, 150);
  EXPECT_EQ(follower.failure()->text,
            "worker-0 was killed by signal 9 (Killed) (asked for by trainingInput.workerCount)");
  EXPECT_EQ(follower.failure()->role, 1u);
  for (size_t role : {2, 0}) follower.OnExit(role, kOk, 200);
  EXPECT_EQ(follower.exit_code(), 1);
}

TEST(FollowerTest, AWorkerThatDiesOfItsOwnFaultEndsTheJob) {
  for (const ExitStatus& fault : {ExitStatus{0, 11}, {0, 6}, {3, 0}}) {
    Follower follower = Running();
    if (fault.signal != 0) {
      follower.OnLine(master::ReplicaLine{.role = "worker", .index = 0, .state = "LOST"}, 90);
    }
    follower.OnExit(1, fault, 100);
    EXPECT_TRUE(follower.failure().has_value()) << DescribeExit(fault);
    follower.OnTick(400);
    EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kTerminateAll));
  }
}

// Its host may be one that was replaced: the others go on in any case.
TEST(FollowerTest, AWorkerThatIsStartedAgainInVainIsNoFailure) {
  Follower follower = Running();
  follower.OnAway(1);
  follower.OnStarted(1, 100);
  EXPECT_EQ(follower.NextDeadline(), kNever);
  follower.OnTick(1'000'000);
  EXPECT_FALSE(follower.failure().has_value());
  EXPECT_FALSE(follower.IsCutOff(1, kExit1)) << "it never had a link";
  follower.OnExit(1, kExit1, 1'000'000);
  EXPECT_THAT(follower.TakeMessages(), ElementsAre("warning: worker-0 exited with code 1"));
  follower.OnTick(2'000'000);
  EXPECT_THAT(follower.TakeActions(), IsEmpty());
  // One that has come is as any other.
  follower.OnStarted(1, 2'000'000);
  follower.OnLine(master::ReplicaLine{.role = "worker", .index = 0, .state = "READY"}, 2'000'100);
  follower.OnExit(1, kExit1, 2'000'200);
  EXPECT_TRUE(follower.failure().has_value());
}

TEST(FollowerTest, OneThatHasLostTheMasterMayBeStartedAgain) {
  Follower follower = Running();
  EXPECT_FALSE(follower.IsCutOff(1, kExit1));
  follower.OnLine(master::ReplicaLine{.role = "worker", .index = 0, .state = "LOST"}, 90);
  EXPECT_TRUE(follower.IsCutOff(1, kExit1));
  EXPECT_FALSE(follower.IsCutOff(1, ExitStatus{0, 11}));
  follower.OnInterrupt(95);
  EXPECT_FALSE(follower.IsCutOff(1, kExit1));
}

TEST(FollowerTest, AWorkerThatEndsBecauseItLostTheMasterIsSpared) {
  Follower follower = Running();
  follower.OnLine(master::ReplicaLine{.role = "worker", .index = 0, .state = "LOST"}, 90);
  follower.OnExit(1, kExit1, 100);
  follower.OnTick(1000);
  EXPECT_THAT(follower.TakeActions(), IsEmpty());
}

TEST(FollowerTest, AnOrderlyEndThatIsHeardOfBeforeTheMastersWordIsNoFailure) {
  Follower follower = Running();
  follower.OnExit(1, ExitStatus{}, 10);
  follower.OnLine(master::StateLine{RunState::kSucceeded, ""}, 50);
  EndAll(follower, ExitStatus{}, 60);
  follower.OnTick(10'000);
  EXPECT_TRUE(follower.done());
  EXPECT_EQ(follower.outcome(), RunState::kSucceeded);
  EXPECT_EQ(follower.exit_code(), 0);
  EXPECT_FALSE(follower.failure().has_value());
}

TEST(FollowerTest, ACauseThatIsHeardOfAfterItsConsequenceIsTheOneThatIsTold) {
  Follower follower = Running();
  follower.OnLine(master::StateLine{RunState::kFailed, "worker-0: stream broke"}, 100);
  follower.OnExit(1, kKilled, 101);
  follower.OnTick(500);
  EXPECT_THAT(follower.failure()->text, HasSubstr("worker-0 was killed by signal 9 (Killed)"));
}

TEST(FollowerTest, ARoleThatTheMasterToldToLeaveOnlyLendsItsLog) {
  Follower follower = Running();
  follower.OnLine(master::StateLine{RunState::kFailed, "the data directory is empty"}, 100);
  follower.OnExit(2, kOk, 101);
  follower.OnExit(1, kExit1, 102);
  EXPECT_EQ(follower.failure()->text, "the data directory is empty");
  EXPECT_EQ(follower.failure()->role, 1u);
  follower.OnExit(0, kExit1, 103);
  EXPECT_TRUE(follower.done());
  EXPECT_EQ(follower.failure()->role, 1u);
}

TEST(FollowerTest, WrongInputThatOnlyARoleCouldSeeExitsWithTwo) {
  Follower follower = Running();
  follower.OnLine(master::StateLine{RunState::kFailed, "chief-0: DIR: no such folder", true}, 100);
  for (size_t role : {2, 1, 0}) follower.OnExit(role, kExit1, 101);
  EXPECT_EQ(follower.exit_code(), 2);
}

TEST(FollowerTest, RolesThatAreLostBecauseTheMasterCrashedDoNotTakeTheBlame) {
  Follower follower = Running();
  follower.OnExit(0, {0, 11}, 100);
  follower.OnExit(1, kExit1, 101);
  EXPECT_THAT(follower.failure()->text, HasSubstr("master-0 was killed by signal 11"));
}

TEST(FollowerTest, ARoleThatNeverRegistersIsNamedSoonAndFailsTheJobWhenItsTimeIsOver) {
  Follower follower(Options(), 0);
  follower.OnStarted(0, 0);
  EXPECT_EQ(follower.NextDeadline(), 4'000);
  follower.OnLine(master::ListeningLine{"127.0.0.1:1"}, 5);
  for (size_t role : {1, 2}) follower.OnStarted(role, 10);
  follower.OnLine(master::ReplicaLine{.role = "worker", .index = 0, .state = "REGISTERED"}, 50);
  EXPECT_EQ(follower.NextDeadline(), 4'010);
  follower.OnTick(4'010);
  EXPECT_THAT(
      follower.TakeMessages(),
      ElementsAre("warning: ps-0 has not registered with the master for 4 s (asked for by "
                  "trainingInput.parameterServerCount); the job waits for it until 1 min 00 "
                  "s after its start (cluster.startTimeoutS)"));
  follower.OnTick(5'000);
  EXPECT_THAT(follower.TakeMessages(), IsEmpty()) << "it was said";
  EXPECT_EQ(follower.NextDeadline(), 60'010);
  follower.OnTick(60'009);
  EXPECT_FALSE(follower.failure().has_value());
  follower.OnTick(60'010);
  EXPECT_THAT(follower.failure()->text,
              HasSubstr("ps-0 did not register with the master within 1 min 00 s"));
}

TEST(FollowerTest, ARoleThatHangsBeforeItRegistersIsNotWaitedFor) {
  const auto run = [](std::vector<ProcessActivity> each_second) {
    Follower follower(Options(), 0);
    for (size_t role : {0, 1, 2}) follower.OnStarted(role, 0);
    follower.OnLine(master::ListeningLine{"127.0.0.1:1"}, 5);
    follower.OnLine(master::ReplicaLine{.role = "worker", .index = 0, .state = "REGISTERED"}, 50);
    int64_t now_ms = 0;
    for (const ProcessActivity& activity : each_second) {
      follower.OnActivity(2, activity, now_ms += 1000);
      follower.OnTick(now_ms);
    }
    return follower.failure().has_value() ? follower.failure()->text : "";
  };
  constexpr bool kAsleep = true;
  EXPECT_EQ(run({{5, kAsleep}, {5, kAsleep}, {5, kAsleep}, {5, kAsleep}}),
            "ps-0 hangs: 4 s after its start it has not registered with the master (asked for by "
            "trainingInput.parameterServerCount), and does nothing");
  EXPECT_EQ(run({{5, kAsleep}, {5, kAsleep}, {5, kAsleep}}), "") << "too soon to say";
  EXPECT_EQ(run({{5, kAsleep}, {6, kAsleep}, {7, kAsleep}, {8, kAsleep}}), "") << "it works";
  EXPECT_EQ(run({{5, false}, {5, false}, {5, false}, {5, false}}), "")
      << "it waits for a processor or a disk";
  EXPECT_EQ(run({{5, kAsleep}, {5, kAsleep}, {5, false}, {5, kAsleep}}), "");
}

TEST(FollowerTest, CtrlCAsksTheMasterAndWaitsAsLongAsItTakes) {
  Follower follower = Running();
  follower.OnInterrupt(100);
  EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kInterruptMaster));
  EXPECT_EQ(follower.NextDeadline(), kNever);
  EXPECT_EQ(follower.Display(100).state, RunState::kCancelling);
  follower.OnLine(master::StateLine{RunState::kCancelling, "saving a checkpoint"}, 200);
  follower.OnExit(1, kExit1, 300);
  follower.OnLine(master::StateLine{RunState::kCancelled, ""}, 400);
  follower.OnExit(2, kOk, 500);
  follower.OnExit(0, kOk, 500);
  EXPECT_TRUE(follower.done());
  EXPECT_EQ(follower.outcome(), RunState::kCancelled);
  EXPECT_EQ(follower.exit_code(), 130);
  EXPECT_FALSE(follower.failure().has_value());
}

TEST(FollowerTest, ASecondCtrlCKills) {
  Follower follower = Running();
  follower.OnInterrupt(100);
  follower.OnInterrupt(200);
  EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kInterruptMaster, Action::kKillAll));
  EndAll(follower, kKilled, 300);
  EXPECT_EQ(follower.outcome(), RunState::kCancelled);
  EXPECT_EQ(follower.exit_code(), 130);
}

TEST(FollowerTest, CtrlCBeforeTheMasterListensStopsAtOnce) {
  Follower follower(Options(), 0);
  follower.OnStarted(0, 0);
  follower.OnInterrupt(1);
  EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kKillAll));
  follower.OnExit(0, kKilled, 2);
  EXPECT_TRUE(follower.done());
  EXPECT_EQ(follower.exit_code(), 130);
}

TEST(FollowerTest, CtrlCAfterTheEndChangesNothing) {
  Follower follower = Running();
  follower.OnLine(master::StateLine{RunState::kSucceeded, ""}, 10);
  follower.OnInterrupt(20);
  EXPECT_THAT(follower.TakeActions(), IsEmpty());
  EndAll(follower, kOk, 30);
  EXPECT_EQ(follower.exit_code(), 0);
}

TEST(FollowerTest, AWorkerThatDiesWhileDrainingIsAFailureButStillInterrupted) {
  Follower follower = Running();
  follower.OnInterrupt(100);
  follower.OnExit(1, kKilled, 200);
  follower.OnTick(500);
  EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kInterruptMaster, Action::kTerminateAll));
  EndAll(follower, kKilled, 600);
  EXPECT_EQ(follower.outcome(), RunState::kFailed);
  EXPECT_EQ(follower.exit_code(), 130);
}

TEST(FollowerTest, TheRunningTimeIsCountedFromRunning) {
  FollowerOptions options = Options();
  options.max_running_ms = 7'200'000;
  Follower follower = Running(5'000, options);
  EXPECT_EQ(follower.NextDeadline(), 7'205'000);
  follower.OnTick(7'204'999);
  EXPECT_THAT(follower.TakeActions(), IsEmpty());
  follower.OnTick(7'205'000);
  EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kInterruptMaster));
  EXPECT_THAT(follower.cancel_reason(), HasSubstr("2 h 00 min"));
  // A master that does not manage is stopped.
  follower.OnTick(follower.NextDeadline());
  EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kTerminateAll));
  EndAll(follower, kOk, 7'400'000);
  EXPECT_EQ(follower.outcome(), RunState::kCancelled);
  EXPECT_EQ(follower.exit_code(), 1);
}

TEST(FollowerTest, ABudgetEndsTheJobInOrderBeforeItIsUsedUp) {
  auto rent = std::make_shared<Rent>();
  rent->bill.Begin(/*usd_per_hour=*/60, 0);
  rent->max_cost = 10;  // ten minutes, of which the last one and a half are for giving back
  FollowerOptions options = Options();
  options.rent = rent;
  Follower follower = Running(5'000, options);
  const int64_t stop = 600'000 - Rent::kTeardownMs - 1;
  EXPECT_EQ(follower.NextDeadline(), stop);
  EXPECT_EQ(follower.EndsBy(6'000), stop);
  EXPECT_EQ(follower.Display(61'000).cost, 2);
  EXPECT_EQ(follower.Display(61'000).cost_per_hour, 60);
  follower.OnTick(stop - 1);
  EXPECT_THAT(follower.TakeActions(), IsEmpty());
  follower.OnTick(stop);
  EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kInterruptMaster));
  EXPECT_THAT(follower.cancel_reason(), HasSubstr("the budget of $10.00 is used up"));
  EndAll(follower, kOk, 560'000);
  EXPECT_EQ(follower.outcome(), RunState::kCancelled);
  EXPECT_EQ(follower.exit_code(), 1);
}

TEST(FollowerTest, AJobWhoseMachinesAreIdleIsEndedInOrder) {
  FollowerOptions options = Options();
  options.idle = {.busy_below = 0.3, .for_ms = 10'000};
  options.machines = 2;
  Follower starting(options, 0);
  starting.OnMachineUsed(0, 0, 0);
  starting.OnMachineUsed(1, 0, 0);
  starting.OnTick(60'000);
  EXPECT_THAT(starting.TakeActions(), IsEmpty()) << "it does not train yet";
  Follower follower = Running(60'000, options);
  follower.OnMachineUsed(0, 0.1, 61'000);
  follower.OnMachineUsed(1, 0.1, 62'000);
  follower.OnTick(71'999);
  EXPECT_THAT(follower.TakeActions(), IsEmpty());
  follower.OnTick(72'000);
  EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kInterruptMaster));
  EXPECT_THAT(follower.cancel_reason(), HasSubstr("cluster.idle"));
  EndAll(follower, kOk, 73'000);
  EXPECT_EQ(follower.outcome(), RunState::kCancelled);
  EXPECT_EQ(follower.exit_code(), 1);
}

TEST(FollowerTest, RolesThatStayAfterTheEndAreMadeToLeave) {
  Follower follower = Running();
  follower.OnLine(master::StateLine{RunState::kSucceeded, ""}, 100);
  follower.OnTick(10'099);
  EXPECT_THAT(follower.TakeActions(), IsEmpty());
  follower.OnTick(10'100);
  EXPECT_THAT(follower.TakeActions(), ElementsAre(Action::kTerminateAll));
  EndAll(follower, {0, 15}, 10'200);
  EXPECT_EQ(follower.exit_code(), 0);
}

TEST(FollowerTest, TheTimeLeftFollowsFromThePaceOfTheSteps) {
  Follower follower = Running();
  for (int64_t step = 0; step <= 100; step += 10) {
    follower.OnLine(master::ProgressLine{.step = step, .total_steps = 1000}, 1000 + step * 50);
  }
  EXPECT_EQ(follower.Display(6000).eta_ms, 900 * 50);
  EXPECT_EQ(follower.Display(7000).eta_ms, 900 * 50 - 1000);
}

TEST(FollowerTest, ANumberThatAProgressLineLeavesOutStays) {
  Follower follower = Running();
  follower.OnLine(master::ProgressLine{.step = 1, .total_steps = 9, .validation_accuracy = 0.5}, 1);
  follower.OnLine(master::ProgressLine{.step = 2, .total_steps = 9}, 2);
  EXPECT_EQ(follower.Display(2).validation_accuracy, 0.5);
}

TEST(FollowerTest, ALineThatDoesNotReadIsAWarning) {
  Follower follower = Running();
  follower.OnBadLine(absl::InvalidArgumentError("cut short"));
  EXPECT_THAT(follower.TakeMessages(), ElementsAre(HasSubstr("does not read: cut short")));
  EXPECT_FALSE(follower.failure().has_value());
}

}  // namespace
}  // namespace muster::cluster
