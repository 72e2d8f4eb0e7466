// launch jobs beside real jobs: what a second terminal shows of the first one's.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include "tests/e2e/programs.h"

namespace muster::e2e {
namespace {

using master::RunState;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Two workers, one server, more steps than anybody waits for.
TinyJob Long() {
  return {.workers = 2, .servers = 1, .steps = 1'000'000, .evaluate_every = 10, .save_every = 10};
}

Ended Jobs(std::vector<std::string> words) {
  words.insert(words.begin(), {"launch", "jobs"});
  Ended ended = RunToEnd(words);
  ExpectForHumans(ended);
  return ended;
}

TEST(JobsCommand, ARunningJobIsListedFollowedAndCancelledFromElsewhere) {
  const std::string folder = NewFolder("cancel"), job = folder + "/job";
  std::vector<std::string> words = LaunchWords(folder, Long());
  words.insert(words.end(), {"--job-id", "cancel_me"});
  Running run(words);
  ASSERT_TRUE(run.WaitFor("validation"));
  EXPECT_THAT(Jobs({"list"}).out, ContainsRegex("cancel_me +LOCAL +RUNNING +[0-9]+/1000000 "));
  EXPECT_THAT(Jobs({"describe", "cancel"}).out,
              AllOf(HasSubstr(job), HasSubstr(fmt::format("process {} ", run.pid())),
                    ContainsRegex("worker-1 +READY")));
  Running follow({"launch", "jobs", "logs", "-f", job, "--role", "worker-1"});
  EXPECT_TRUE(follow.WaitFor(" I device /cpu:0"));
  const auto roles = RolesOf(job);
  const Ended cancelled = Jobs({"cancel", "cancel_me"});
  EXPECT_EQ(cancelled.code, 0) << cancelled.err;
  EXPECT_EQ(run.Wait().code, 130);
  EXPECT_TRUE(AwaitEnd(roles));
  // What follows a job ends with it, and has shown all of it.
  EXPECT_EQ(follow.Wait().out, Contents(job + "/logs/worker-1.log"));
  const master::JobState state = StateOf(job);
  EXPECT_EQ(state.state, RunState::kCancelled);
  ASSERT_TRUE(state.last_checkpoint.has_value());
  EXPECT_EQ(state.last_checkpoint->step, state.step);
  EXPECT_THAT(Jobs({"list"}).out, ContainsRegex("cancel_me +LOCAL +CANCELLED "));
}

TEST(JobsCommand, AJobWhoseLauncherWasKilledIsLost) {
  const std::string folder = NewFolder("lost"), job = folder + "/job";
  Running run(LaunchWords(folder, Long()));
  ASSERT_TRUE(run.WaitFor("validation"));
  const auto roles = RolesOf(job);
  run.Signal(SIGKILL);
  run.Wait();
  EXPECT_TRUE(AwaitEnd(roles));
  EXPECT_EQ(StateOf(job).state, RunState::kRunning) << "nobody could say otherwise";
  EXPECT_THAT(Jobs({"describe", job}).out, ContainsRegex("state +LOST"));
  const Ended cancelled = Jobs({"cancel", job});
  EXPECT_EQ(cancelled.code, 1);
  EXPECT_THAT(cancelled.err, HasSubstr("nobody runs the job in " + job));
  EXPECT_THAT(RolesOf(job), IsEmpty());
}

}  // namespace
}  // namespace muster::e2e
