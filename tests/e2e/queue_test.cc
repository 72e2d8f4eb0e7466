// Jobs that wait for each other (cluster.limits), as a user of several terminals sees them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <thread>

#include "tests/e2e/programs.h"

namespace muster::e2e {
namespace {

using master::RunState;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

class QueueTest : public ::testing::Test {
 protected:
  // A job of one process that lets one job run at a time.
  std::vector<std::string> Words(const std::string& id, int steps, int priority = 0) const {
    TinyJob job;
    job.steps = steps;
    job.cluster = "limits: {jobs: 1}";
    job.priority = priority;
    std::vector<std::string> words = LaunchWords(NewFolder(id), job);
    words.insert(words.end(), {"--job-id", id});
    return words;
  }
  static std::string Folder(const std::vector<std::string>& words) { return words[4]; }
  Ended Launch(const std::vector<std::string>& words) const {
    Ended ended = Running(words, false, environment_).Wait();
    ExpectForHumans(ended);
    return ended;
  }
  std::string List() const { return Launch({"launch", "jobs", "list"}).out; }
  void AwaitListed(const std::string& pattern) const {
    for (int i = 0; i < 300; ++i) {
      const std::string list = List();
      if (::testing::internal::RE::FullMatch(list, "(.|\n)*" + pattern + "(.|\n)*")) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    ADD_FAILURE() << "not " << pattern << " in\n" << List();
  }

  static constexpr int kForever = 1'000'000;
  const std::string home_ = NewFolder("home");
  const std::map<std::string, std::string> environment_ = {{"HOME", home_},
                                                           {"MUSTER_HOME", home_ + "/.muster"}};
};

TEST_F(QueueTest, WhenTheRunningOneIsKilledTheMostUrgentBegins) {
  Running first(Words("first", kForever), false, environment_);
  ASSERT_TRUE(first.WaitFor("RUNNING")) << first.out();
  Running second(Words("second", 40), false, environment_);
  ASSERT_TRUE(
      second.WaitFor("waiting for cluster.limits: place 1 of 1; 1 job on 1 machine run: "
                     "first"))
      << second.out();
  Running third(Words("third", kForever, /*priority=*/5), false, environment_);
  ASSERT_TRUE(third.WaitFor("waiting for cluster.limits: place 1 of 2")) << third.out();
  EXPECT_THAT(List(), AllOf(ContainsRegex("third +LOCAL +QUEUED .*place 1, priority 5"),
                            ContainsRegex("second +LOCAL +QUEUED .*place 2, priority 0"),
                            ContainsRegex("first +LOCAL +RUNNING")));
  first.Signal(SIGKILL);
  first.Wait();
  ASSERT_TRUE(third.WaitFor("RUNNING")) << third.out();
  EXPECT_THAT(List(), ContainsRegex("second +LOCAL +QUEUED .*place 1"));
  third.Signal(SIGINT);
  EXPECT_EQ(third.Wait().code, 130);
  const Ended ended = second.Wait();
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_THAT(List(), Not(HasSubstr("QUEUED")));
}

TEST_F(QueueTest, WaitingEndsByCtrlCByCancelAndByAKill) {
  Running first(Words("first", kForever), false, environment_);
  ASSERT_TRUE(first.WaitFor("RUNNING")) << first.out();
  {
    Running run(Words("interrupted", 40), false, environment_);
    ASSERT_TRUE(run.WaitFor("waiting for cluster.limits"));
    run.Signal(SIGINT);
    const Ended ended = run.Wait();
    EXPECT_EQ(ended.code, 130);
    EXPECT_THAT(ended.err, HasSubstr("does not wait any more"));
    ExpectForHumans(ended);
  }
  {
    Running run(Words("cancelled", 40), false, environment_);
    ASSERT_TRUE(run.WaitFor("waiting for cluster.limits"));
    EXPECT_EQ(Launch({"launch", "jobs", "cancel", "cancelled"}).code, 0);
    EXPECT_EQ(run.Wait().code, 130);
  }
  {
    Running run(Words("killed", 40, /*priority=*/9), false, environment_);
    ASSERT_TRUE(run.WaitFor("waiting for cluster.limits"));
    run.Signal(SIGKILL);
    run.Wait();
  }
  EXPECT_THAT(List(), AllOf(Not(HasSubstr("QUEUED")), ContainsRegex("first +LOCAL +RUNNING")));
}

TEST_F(QueueTest, AJobWaitsWithoutATerminalAndGoesOnWithoutItsLauncher) {
  Running first(Words("first", kForever), false, environment_);
  ASSERT_TRUE(first.WaitFor("RUNNING")) << first.out();
  std::vector<std::string> words = Words("behind", kForever);
  words.emplace_back("--async");
  const Ended queued = Launch(words);
  EXPECT_EQ(queued.code, 0) << queued.err;
  EXPECT_THAT(queued.out, HasSubstr("behind waits for its turn, and begins without a terminal"));
  EXPECT_THAT(List(), ContainsRegex("behind +LOCAL +QUEUED .*place 1"));
  first.Signal(SIGINT);
  EXPECT_EQ(first.Wait().code, 130);
  AwaitListed("behind +LOCAL +RUNNING");
  // It is left, and counts all the same.
  std::vector<std::string> after = Words("after", 40);
  Running last(after, false, environment_);
  ASSERT_TRUE(last.WaitFor("1 job on 1 machine run: behind")) << last.out();
  EXPECT_EQ(Launch({"launch", "jobs", "cancel", "behind"}).code, 0);
  EXPECT_EQ(last.Wait().code, 0);
  EXPECT_EQ(StateOf(Folder(words)).state, RunState::kCancelled);

  Running again(Words("again", kForever), false, environment_);
  ASSERT_TRUE(again.WaitFor("RUNNING")) << again.out();
  words = Words("never", 40);
  words.emplace_back("--async");
  EXPECT_EQ(Launch(words).code, 0);
  EXPECT_EQ(Launch({"launch", "jobs", "cancel", "never"}).code, 0);
  AwaitListed("again +LOCAL +RUNNING");
  EXPECT_THAT(List(), Not(HasSubstr("never")));
}

// The job's turn may come when nobody is at the terminal any more.
TEST_F(QueueTest, WhatCostsMoneyIsAgreedToBeforeAJobWaits) {
  TinyJob job;
  job.cluster = "provider: AWS, aws: {regions: [us-east-1]}, limits: {jobs: 1}";
  std::vector<std::string> words = LaunchWords(NewFolder("rented"), job);
  words.emplace_back("--async");
  const Ended refused = Launch(words);
  EXPECT_EQ(refused.code, 2) << refused.out;
  EXPECT_THAT(refused.err, HasSubstr("agree with --yes"));
  EXPECT_THAT(List(), Not(HasSubstr("QUEUED")));
}

TEST_F(QueueTest, AFolderThatCannotBeWrittenIsNamedWithTheReason) {
  for (const char* home : {"/proc/nowhere", "/dev/null"}) {
    const Ended refused =
        Running(Words("unwritable", 40), false, {{"MUSTER_HOME", home}, {"HOME", home_}}).Wait();
    EXPECT_EQ(refused.code, 2) << refused.out;
    EXPECT_THAT(refused.err, ContainsRegex("^error: cannot use " + std::string(home) +
                                           "/queue, where jobs wait for cluster.limits: "
                                           "No[^\n]+\n$"));
  }
}

}  // namespace
}  // namespace muster::e2e
