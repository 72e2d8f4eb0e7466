// Jobs that are interrupted, killed or robbed of a role: what stays, and how they go on.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "tests/e2e/programs.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;
using master::RunState;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

// Two workers, one server, more steps than anybody waits for.
TinyJob Long() {
  return {.workers = 2, .servers = 1, .steps = 1'000'000, .evaluate_every = 10, .save_every = 10};
}

TEST(Ends, NothingSurvivesAKilledLauncherAndTheSameCommandResumes) {
  const std::string folder = NewFolder("orphans"), job = folder + "/job";
  Running run(LaunchWords(folder, Long()));
  // The first accuracy may be told before the checkpoint of its step is committed.
  do {
    ASSERT_TRUE(run.WaitFor("validation"));
  } while (!StateOf(job).last_checkpoint.has_value());
  for (const master::ReplicaState& replica : StateOf(job).replicas) {
    EXPECT_EQ(replica.state, "READY") << replica.role << replica.index;
  }
  const auto roles = RolesOf(job);
  ASSERT_EQ(roles.size(), 5U) << "coordinator, chief, two workers, a server";
  const auto sockets = SocketsOf(roles);
  ASSERT_GE(SocketsLeft(sockets).size(), 2U) << "the master and the server listen";

  run.Signal(SIGKILL);
  EXPECT_EQ(run.Wait().code, -SIGKILL);
  EXPECT_TRUE(AwaitEnd(roles));
  EXPECT_THAT(RolesOf(job), IsEmpty());
  EXPECT_THAT(SocketsLeft(sockets), IsEmpty());

  Running again(LaunchWords(folder, Long()));
  EXPECT_TRUE(again.WaitFor("resuming from the checkpoint of step "));
  EXPECT_TRUE(again.WaitFor("RUNNING: training"));
  again.Signal(SIGINT);
  EXPECT_EQ(again.Wait().code, 130);
  EXPECT_GE(StateOf(job).resumed_from, 10);
}

TEST(Ends, AJobThatCountsAsIdleIsStoppedWithACheckpoint) {
  TinyJob job = Long();
  job.cluster = "idle: {cpuBelow: 1, for: 1s}";  // nothing is busier
  const std::string folder = NewFolder("idle");
  const Ended run = RunToEnd(LaunchWords(folder, job));
  EXPECT_EQ(run.code, 1) << run.out << run.err;
  ExpectForHumans(run);
  EXPECT_THAT(run.out, HasSubstr("no machine was busier than 100 % for 1 s (cluster.idle)"));
  const master::JobState state = StateOf(folder + "/job");
  EXPECT_EQ(state.state, RunState::kCancelled);
  EXPECT_THAT(state.error_message, HasSubstr("cluster.idle"));
  ASSERT_TRUE(state.last_checkpoint.has_value());
  EXPECT_EQ(state.last_checkpoint->step, state.step);
}

TEST(Ends, AnInterruptedRunThatGoesOnEndsWithTheWeightsOfOneThatWasNeverStopped) {
  const TinyJob job = {
      .workers = 2, .servers = 1, .steps = 200, .evaluate_every = 10, .save_every = 1000};
  const std::string whole = NewFolder("whole"), parts = NewFolder("parts");
  const Ended uninterrupted = RunToEnd(LaunchWords(whole, job));
  ASSERT_EQ(uninterrupted.code, 0) << uninterrupted.err;

  Running first(LaunchWords(parts, job));
  ASSERT_TRUE(first.WaitFor("validation"));
  first.Signal(SIGINT);
  const Ended interrupted = first.Wait();
  EXPECT_EQ(interrupted.code, 130) << interrupted.err;
  EXPECT_EQ(interrupted.err, "");
  ExpectForHumans(interrupted);
  const master::JobState stopped = StateOf(parts + "/job");
  EXPECT_EQ(stopped.state, RunState::kCancelled);
  ASSERT_TRUE(stopped.last_checkpoint.has_value());
  EXPECT_EQ(stopped.last_checkpoint->step, stopped.step);
  ASSERT_LT(stopped.step, 200);
  ASSERT_TRUE(
      fs::exists(fmt::format("{}/job/checkpoints/step-{}/manifest.json", parts, stopped.step)));

  const Ended resumed = RunToEnd(LaunchWords(parts, job));
  ASSERT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_THAT(resumed.out,
              HasSubstr(fmt::format("resuming from the checkpoint of step {}", stopped.step)));
  EXPECT_EQ(StateOf(parts + "/job").resumed_from, stopped.step);
  for (const char* file :
       {"/job/checkpoints/step-200/ps-0.safetensors", "/job/export/model.onnx"}) {
    EXPECT_TRUE(Contents(whole + file) == Contents(parts + file)) << file;
  }
}

TEST(Ends, TheSecondInterruptStopsAtOnce) {
  const std::string folder = NewFolder("twice"), job = folder + "/job";
  Running run(LaunchWords(folder, Long()));
  ASSERT_TRUE(run.WaitFor("validation"));
  const auto roles = RolesOf(job);
  // A trainer that stands still keeps the first interrupt from ending the run.
  kill(roles.at("worker-0"), SIGSTOP);
  run.Signal(SIGINT);
  ASSERT_TRUE(run.WaitFor("Ctrl-C again stops at once"));
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait().code, 130);
  EXPECT_TRUE(AwaitEnd(roles));
}

class KilledRole : public ::testing::TestWithParam<std::pair<const char*, const char*>> {};

TEST_P(KilledRole, IsNamedInOneLineAndTheRestIsStopped) {
  const auto [role, field] = GetParam();
  const std::string folder = NewFolder("killed"), job = folder + "/job";
  Running run(LaunchWords(folder, Long()));
  ASSERT_TRUE(run.WaitFor("validation"));
  const auto roles = RolesOf(job);
  kill(roles.at(role), SIGKILL);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 1);
  ExpectForHumans(ended);
  EXPECT_EQ(
      ended.err.substr(0, ended.err.find('\n')),
      fmt::format("error: {} was killed by signal 9 (Killed) (asked for by {})", role, field));
  EXPECT_THAT(ended.err, HasSubstr(fmt::format("the last lines of {}/logs/{}.log:", job, role)));
  EXPECT_THAT(RolesOf(job), IsEmpty());
  EXPECT_EQ(StateOf(job).state, RunState::kFailed);
}

INSTANTIATE_TEST_SUITE_P(Roles, KilledRole,
                         ::testing::Values(std::pair("master-0", "trainingInput.masterType"),
                                           std::pair("chief-0", "trainingInput.masterType"),
                                           std::pair("ps-0", "trainingInput.parameterServerCount")),
                         [](const auto& info) {
                           std::string name = info.param.first;
                           return name.substr(0, name.find('-'));
                         });

// The weights and accuracies of `job`'s last step, and what it exported.
void ExpectTheSameResult(const std::string& folder, const std::string& whole, int steps) {
  const master::JobState state = StateOf(folder + "/job"), expected = StateOf(whole + "/job");
  EXPECT_EQ(state.metrics.test_accuracy, expected.metrics.test_accuracy);
  EXPECT_EQ(state.metrics.validation_accuracy, expected.metrics.validation_accuracy);
  for (const std::string& file : {fmt::format("/job/checkpoints/step-{}/ps-0.safetensors", steps),
                                  std::string("/job/export/model.onnx")}) {
    EXPECT_TRUE(Contents(whole + file) == Contents(folder + file)) << file;
  }
}

class GoneWorker : public ::testing::TestWithParam<int> {};

TEST_P(GoneWorker, LeavesItsReplicaToTheOthersAndTheResultIsTheSame) {
  const int signal = GetParam();
  const TinyJob job = {
      .workers = 2, .servers = 1, .steps = 300, .evaluate_every = 20, .save_every = 1000};
  const std::string whole = NewFolder("whole"), folder = NewFolder("gone");
  ASSERT_EQ(RunToEnd(LaunchWords(whole, job)).code, 0);

  Running run(LaunchWords(folder, job));
  ASSERT_TRUE(run.WaitFor("validation"));
  const auto roles = RolesOf(folder + "/job");
  kill(roles.at("worker-1"), signal);
  ASSERT_TRUE(run.WaitFor("replica 2 goes on in chief-0"));
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  ExpectForHumans(ended);
  EXPECT_TRUE(AwaitEnd(roles));
  const master::JobState state = StateOf(folder + "/job");
  EXPECT_EQ(state.state, RunState::kSucceeded);
  EXPECT_EQ(state.replicas.at(2).state, signal == SIGTERM ? "LEFT" : "LOST");
  ExpectTheSameResult(folder, whole, 300);
}

INSTANTIATE_TEST_SUITE_P(Signals, GoneWorker, ::testing::Values(SIGKILL, SIGTERM),
                         [](const auto& info) {
                           return info.param == SIGTERM ? "AskedToLeave" : "Killed";
                         });

// Slow is not gone, but half a minute without a sign of life is too long for the others.
TEST(Ends, AWorkerThatStandsStillForLongIsDoneWithoutAndStartedAgain) {
  const std::string folder = NewFolder("stood_still");
  Running run(LaunchWords(
      folder,
      {.workers = 2, .servers = 1, .steps = 1'000'000, .evaluate_every = 500, .save_every = 500}));
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  const pid_t worker = RolesOf(folder + "/job").at("worker-1");
  kill(worker, SIGSTOP);
  ASSERT_TRUE(run.WaitFor("has been silent for 3")) << run.out();
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  kill(worker, SIGCONT);
  ASSERT_TRUE(run.WaitFor("worker-1 is started again")) << run.out();
  ASSERT_TRUE(run.WaitFor("worker-1 has joined; replica 2 goes on in worker-1")) << run.out();
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 130) << ended.out << ended.err;
  EXPECT_EQ(ended.err, "");
  ExpectForHumans(ended);
  const master::JobState state = StateOf(folder + "/job");
  EXPECT_EQ(state.last_checkpoint->step, state.step);
  for (const master::ReplicaState& replica : state.replicas) {
    EXPECT_TRUE(replica.role != "worker" || replica.state == "FINISHED") << replica.index;
  }
}

TEST(Ends, ASecondLaunchOnAHeldDirectoryIsRefusedWithWhoAndSinceWhen) {
  const std::string folder = NewFolder("held"), job = folder + "/job";
  Running run(LaunchWords(folder, Long()));
  ASSERT_TRUE(run.WaitFor("RUNNING"));
  const Ended second = RunToEnd(LaunchWords(folder, Long()));
  EXPECT_EQ(second.code, 2);
  ExpectForHumans(second);
  char host[256] = {};
  ASSERT_EQ(gethostname(host, sizeof(host) - 1), 0);
  EXPECT_THAT(second.err, HasSubstr(job));
  EXPECT_THAT(second.err, HasSubstr(std::to_string(run.pid())));
  EXPECT_THAT(second.err, HasSubstr(host));
  EXPECT_THAT(second.err, MatchesRegex("error: [^\n]* since 20[0-9-]+T[0-9:.]+Z[^\n]*\n"));
  // The first run is not disturbed.
  EXPECT_EQ(StateOf(job).state, RunState::kRunning);
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait().code, 130);
}

}  // namespace
}  // namespace muster::e2e
