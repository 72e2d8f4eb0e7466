// A keeper whose launcher has left the job: who may end it, what is kept for whom and for how long,
// and what ends it in order.
#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "master/status_line.h"
#include "telemetry/file.h"
#include "telemetry/time.h"
#include "tests/cluster/keeper_fixture.h"

namespace muster::cluster {
namespace {

using ::testing::HasSubstr;

class KeeperLeftTest : public KeeperTest {
 protected:
  // One of a rented host, whose master ends so long after it has begun.
  void LeaveAMaster(int64_t until_in_ms, const std::string& seconds = "0.5") {
    std::filesystem::create_symlink("/bin/sleep", folder_.path() + "/master");
    Node first;
    Begin(first);
    NodeRequest open, start, leave;
    open.mutable_open()->set_directory(folder_.path() + "/job");
    open.mutable_open()->set_lock(true);
    open.mutable_open()->set_rented(true);
    open.mutable_open()->set_kept(kept_);
    Say(first, open);
    ASSERT_TRUE(Next(first).has_opened());
    start.mutable_start()->set_name("master-0");
    start.mutable_start()->set_program("master");
    start.mutable_start()->add_arguments(seconds);
    start.mutable_start()->set_is_master(true);
    start.mutable_start()->set_log_path(folder_.path() + "/job/logs/master-0.log");
    Say(first, start);
    EXPECT_TRUE(Next(first).has_started());
    leave.mutable_leave()->set_until_in_ms(until_in_ms);
    Say(first, leave);
    while (!Next(first).has_left()) {
    }
    End(first);
  }
  // Leaves a job whose master says that it trains, and then neither finishes a step nor anything
  // else, until it is told; waits for its end.
  void LeaveOneThatTrains(NodeRequest open, const NodeRequest& leave) {
    const std::string line = folder_.path() + "/line", master = folder_.path() + "/master";
    std::ofstream(line) << master::EncodeStatusLine(
                               master::StateLine{master::RunState::kRunning, ""})
                        << "\n";
    std::ofstream(master) << fmt::format("#!/bin/sh\ncat {} >&{}\nexec sleep 600\n", line,
                                         master::kStatusFd);
    std::filesystem::permissions(master, std::filesystem::perms::owner_all);
    Node node;
    Begin(node);
    open.mutable_open()->set_directory(folder_.path() + "/job");
    open.mutable_open()->set_lock(true);
    Say(node, open);
    ASSERT_TRUE(Next(node).has_opened());
    NodeRequest start;
    start.mutable_start()->set_name("master-0");
    start.mutable_start()->set_program("master");
    start.mutable_start()->set_is_master(true);
    start.mutable_start()->set_log_path(folder_.path() + "/job/logs/master-0.log");
    Say(node, start);
    while (!Next(node).has_status()) {
    }
    Say(node, leave);
    while (!Next(node).has_left()) {
    }
    End(node);
    EXPECT_TRUE(KeeperEnds());
  }

  bool kept_ = false;  // OpenJob's
};

TEST_F(KeeperLeftTest, AJobThatWasLeftIsEndedByWhomItIsOpenToAlone) {
  std::filesystem::create_symlink("/bin/sleep", folder_.path() + "/ps");
  Node first;
  Begin(first);
  Open(first);
  ASSERT_TRUE(Next(first).has_opened());
  NodeRequest start, leave, end;
  start.mutable_start()->set_role(3);
  start.mutable_start()->set_name("ps-0");
  start.mutable_start()->set_program("ps");
  start.mutable_start()->add_arguments("600");
  start.mutable_start()->set_log_path(folder_.path() + "/job/logs/ps-0.log");
  Say(first, start);
  EXPECT_EQ(Next(first).started().role(), 3);
  leave.mutable_leave();
  Say(first, leave);
  while (!Next(first).has_left()) {
  }
  End(first);
  end.mutable_end();

  Node launch;
  Begin(launch);
  Open(launch);
  Say(launch, end);
  EXPECT_THAT(Next(launch).error().text(), HasSubstr("launch attach"));
  End(launch);
  EXPECT_TRUE(KeeperLives());

  Node attach;
  Begin(attach);
  Open(attach, /*attach=*/true);
  const NodeEvent started = Next(attach);
  EXPECT_EQ(started.started().name(), "ps-0");
  EXPECT_TRUE(Next(attach).opened().runs());
  Say(attach, end);
  End(attach);
  EXPECT_TRUE(KeeperEnds());
}

// A master that has ended by itself: what it has written is kept for whoever comes, on a host that
// is given back.
TEST_F(KeeperLeftTest, ResultsOnARentedHostWaitForSomebodyWhoFetchesThem) {
  LeaveAMaster(/*until_in_ms=*/600'000);
  // Whoever attaches hears of the end, and that nothing runs any more.
  bool runs = true;
  for (int i = 0; i < 200 && runs; ++i) {
    poll(nullptr, 0, 50);
    Node attach;
    Begin(attach);
    Open(attach, /*attach=*/true);
    NodeEvent event = Next(attach);
    while (!event.has_opened() && event.kind_case() != NodeEvent::KIND_NOT_SET) {
      event = Next(attach);
    }
    ASSERT_TRUE(event.has_opened());
    runs = event.opened().runs();
    End(attach);
  }
  EXPECT_FALSE(runs);
  EXPECT_TRUE(KeeperLives());
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/.muster-ends"));

  Node fetch;
  Begin(fetch);
  Open(fetch);
  ASSERT_TRUE(Next(fetch).has_opened());
  NodeRequest list, end;
  list.mutable_list();
  Say(fetch, list);
  EXPECT_TRUE(Next(fetch).has_files());
  end.mutable_end();
  Say(fetch, end);
  End(fetch);
  EXPECT_TRUE(KeeperEnds());
  EXPECT_TRUE(std::filesystem::exists(folder_.path() + "/.muster-ends")) << "the watchdog's word";
}

// It gives the machine back, or runs the job again there.
TEST_F(KeeperLeftTest, ALauncherThatFollowedTheJobToItsEndDecidesWhatBecomesOfTheMachine) {
  LeaveAMaster(/*until_in_ms=*/600'000, "600");
  Node attach;
  Begin(attach);
  Open(attach, /*attach=*/true);
  while (!Next(attach).has_opened()) {
  }
  NodeRequest end;
  end.mutable_end();
  Say(attach, end);
  End(attach);
  EXPECT_TRUE(KeeperEnds());
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/.muster-ends"));
}

TEST_F(KeeperLeftTest, AndTheyWaitNoLongerThanTheJobWasToBeLeft) {
  LeaveAMaster(/*until_in_ms=*/1);
  EXPECT_TRUE(KeeperEnds());
  EXPECT_TRUE(std::filesystem::exists(folder_.path() + "/.muster-ends"));
}

TEST_F(KeeperLeftTest, OneThatBeginsWithItsHostIsWaitedForAndHoldsNoFinishedJobForLong) {
  options_.fetch_ms = 1'500;
  kept_ = true;
  // The launcher is there first.
  const pid_t late = fork();
  if (late == 0) {
    poll(nullptr, 0, 500);
    _exit(ExitOf(BeginWithHost()));
  }
  LeaveAMaster(/*until_in_ms=*/600'000);
  EXPECT_TRUE(KeeperLives());
  const int64_t began = MonotonicMillis();
  EXPECT_EQ(ExitOf(late), 0);
  EXPECT_LT(MonotonicMillis() - began, 300'000) << "not as long as the launcher has said";
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/.muster-ends")) << "it may be shared";
}

TEST_F(KeeperLeftTest, AJobThatWasLeftAndDoesNothingIsEndedInOrder) {
  NodeRequest open, leave;
  open.mutable_open()->set_busy_below(1);  // whatever else this machine does
  open.mutable_open()->set_idle_ms(1'000);
  leave.mutable_leave();
  LeaveOneThatTrains(open, leave);
  EXPECT_THAT(*ReadFile(folder_.path() + "/job/logs/keeper-0.log"),
              HasSubstr("no machine was busier than 100 % for 1 s (cluster.idle)"));
}

TEST_F(KeeperLeftTest, AJobThatWasLeftIsEndedInOrderWhenItsBudgetIsUsedUp) {
  NodeRequest open, leave;
  leave.mutable_leave()->set_stop_in_ms(1);
  leave.mutable_leave()->set_stop_reason("the budget is\nused up");
  LeaveOneThatTrains(open, leave);
  EXPECT_THAT(*ReadFile(folder_.path() + "/job/logs/keeper-0.log"),
              ::testing::AllOf(::testing::ContainsRegex("the budget is.+used up"),
                               HasSubstr("the master is asked to finish the step")));
}

}  // namespace
}  // namespace muster::cluster
