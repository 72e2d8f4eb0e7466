// Jobs on nodes that a Slurm gives: a real one, on this machine (tests/e2e/slurm_cluster.h).
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <thread>

#include "tests/e2e/programs.h"
#include "tests/e2e/slurm_cluster.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;
using master::RunState;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class SlurmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!slurm_.problem().empty()) GTEST_SKIP() << slurm_.problem();
  }
  // With the master four machines on four nodes.
  TinyJob Job(const std::string& fields = "") const {
    TinyJob job;
    job.workers = 2;
    job.servers = 1;
    job.cluster = fmt::format("provider: SLURM, slurm: {{directory: {}{}{}}}", nodes_,
                              fields.empty() ? "" : ", ", fields);
    return job;
  }
  // As a user whose home is `home`.
  std::map<std::string, std::string> Environment(const std::string& home) const {
    auto environment = slurm_.environment();
    environment["HOME"] = home;
    environment["MUSTER_HOME"] = home + "/.muster";
    return environment;
  }
  Ended Launch(const std::vector<std::string>& words) const {
    return Running(words, /*unprivileged=*/false, environment_).Wait();
  }
  // Leaves a job of so many steps in `folder`; its directory.
  std::string LeaveJob(const std::string& folder, int steps,
                       const std::vector<std::string>& more = {}) const {
    TinyJob job = Job();
    job.steps = steps;
    std::vector<std::string> words = LaunchWords(NewFolder(folder), job);
    std::string dir = words[4];
    words.emplace_back("--async");
    words.insert(words.end(), more.begin(), more.end());
    const Ended left = Launch(words);
    EXPECT_EQ(left.code, 0) << left.out << left.err;
    EXPECT_THAT(left.out, HasSubstr("launch attach job"));
    return dir;
  }
  void AwaitState(const std::string& file, const std::string& state) const {
    for (int i = 0; i < 600 && Contents(file).find(state) == std::string::npos; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_THAT(Contents(file), HasSubstr(state));
  }
  // Slurm has all its nodes back, and nothing of the job runs; `seconds` at the latest.
  void ExpectGivenBack(const std::string& name, int seconds = 20) {
    for (int i = 0; i < 10 * seconds && !slurm_.Queue().empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_THAT(slurm_.Queue(), IsEmpty());
    EXPECT_THAT(RolesOf(nodes_ + "/jobs/" + name), IsEmpty());
  }

  const SlurmCluster slurm_{NewFolder("slurm")};
  const std::string nodes_ = NewFolder("nodes");
  const std::string home_ = NewFolder("home");
  const std::map<std::string, std::string> environment_ = Environment(home_);
};

TEST_F(SlurmTest, AJobLearnsTheSameAsOnOneMachine) {
  const std::string here = NewFolder("here"), there = NewFolder("there");
  TinyJob local = Job();
  local.cluster = "";
  ASSERT_EQ(RunToEnd(LaunchWords(here, local)).code, 0);
  const Ended run = Launch(LaunchWords(there, Job()));
  ASSERT_EQ(run.code, 0) << run.out << run.err;
  EXPECT_EQ(run.err, "");
  ExpectForHumans(run);
  ExpectGivenBack("job");
  EXPECT_EQ(StateOf(there + "/job").state, RunState::kSucceeded);
  const std::string model = "/job/export/model.onnx";
  EXPECT_TRUE(Contents(there + model) == Contents(here + model));
}

TEST_F(SlurmTest, AJobThatWaitsSaysWhyAndIsGivenUpInOrder) {
  slurm_.SetNode(4, /*up=*/false);
  Running run(LaunchWords(NewFolder("waits"), Job()), false, environment_);
  ASSERT_TRUE(run.WaitFor("waiting for nodes: ")) << run.out();
  EXPECT_THAT(slurm_.Queue(), SizeIs(3)) << "the components of one job";
  // A second one of the name is not queued behind it, wherever it comes from.
  const std::vector<std::string> again = LaunchWords(NewFolder("again"), Job());
  EXPECT_THAT(Launch(again).err, HasSubstr("another launch runs job"));
  const Ended second = Running(again, false, Environment(NewFolder("elsewhere"))).Wait();
  EXPECT_EQ(second.code, 2);
  EXPECT_THAT(second.err, AllOf(HasSubstr("a job of this name already"), HasSubstr("squeue")));
  EXPECT_THAT(slurm_.Queue(), SizeIs(3));
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait().code, 130);
  ExpectGivenBack("job");
}

TEST_F(SlurmTest, NodesThatComeLateAreUsed) {
  slurm_.SetNode(4, /*up=*/false);
  Running run(LaunchWords(NewFolder("late"), Job()), false, environment_);
  ASSERT_TRUE(run.WaitFor("waiting for nodes: ")) << run.out();
  slurm_.SetNode(4, /*up=*/true);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
  ExpectGivenBack("job");
}

TEST_F(SlurmTest, WhatSlurmRefusesIsToldInOneLine) {
  const auto refused = [&](const std::string& name, const std::string& fields) {
    const Ended run = Launch(LaunchWords(NewFolder(name), Job(fields)));
    EXPECT_EQ(run.code, 2) << run.out;
    ExpectForHumans(run);
    ExpectGivenBack("job");
    return run.err;
  };
  EXPECT_THAT(refused("partition", "partition: nowhere"),
              AllOf(HasSubstr("sbatch: "), HasSubstr("cluster.slurm.partition")));
  EXPECT_THAT(refused("too_much", "options: [--mem=99T]"), HasSubstr("name smaller types"));
  EXPECT_THAT(refused("programs", "programs: /nowhere"),
              HasSubstr("no program launch in /nowhere"));
  EXPECT_THAT(refused("two_lines", "options: [\"-v\\n#SBATCH -x\"]"),
              HasSubstr("options[0]: is more than one line"));
  // Where there are no commands of Slurm's at all.
  const Ended none =
      Running(LaunchWords(NewFolder("none"), Job()), false, {{"PATH", NewFolder("empty")}}).Wait();
  EXPECT_EQ(none.code, 2);
  EXPECT_THAT(none.err, HasSubstr("there is no program squeue in PATH"));
}

TEST_F(SlurmTest, OtherJobsOfItsNameAreNoneOfOurs) {
  slurm_.Run("sbatch -J job -c 1 -w n4 -o /dev/null --wrap 'sleep 1000'");
  TinyJob job;
  job.cluster = Job().cluster;
  const Ended run = Launch(LaunchWords(NewFolder("beside"), job));
  EXPECT_EQ(run.code, 0) << run.out << run.err;
  EXPECT_THAT(slurm_.Queue(), ElementsAre(HasSubstr("|job|RUNNING")));
  slurm_.Run("scancel -n job");
}

TEST_F(SlurmTest, NodesOfAKilledLaunchAreFreeByThemselves) {
  TinyJob job = Job();
  job.steps = 1'000'000;
  Running run(LaunchWords(NewFolder("killed"), job), false, environment_);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  run.Signal(SIGKILL);
  run.Wait();
  ExpectGivenBack("job");
  EXPECT_THAT(Launch({"launch", "gc"}).out, HasSubstr("job: nothing is left"));
}

TEST_F(SlurmTest, AJobThatWasLeftOutlivesWhoFollowsItAndIsCancelledFromAfar) {
  const std::string dir = LeaveJob("cancelled", 1'000'000);
  EXPECT_THAT(RolesOf(nodes_ + "/jobs/job"), SizeIs(5));
  EXPECT_THAT(Launch({"launch", "jobs", "list"}).out, HasSubstr("DETACHED"));
  EXPECT_THAT(Launch({"launch", "gc"}).out, HasSubstr("it was left to go on until"));
  EXPECT_THAT(slurm_.Queue(), SizeIs(3));
  {
    Running follower({"launch", "attach", dir}, false, environment_);
    ASSERT_TRUE(follower.WaitFor("RUNNING")) << follower.out();
    follower.Signal(SIGKILL);
    follower.Wait();
  }
  const Ended ended = Launch({"launch", "jobs", "cancel", dir});
  EXPECT_EQ(ended.code, 130) << ended.out << ended.err;
  const master::JobState state = StateOf(dir);
  EXPECT_EQ(state.state, RunState::kCancelled);
  ASSERT_TRUE(state.last_checkpoint.has_value());
  EXPECT_TRUE(fs::exists(dir + "/" + state.last_checkpoint->path + "/manifest.json"));
  ExpectGivenBack("job");
}

TEST_F(SlurmTest, AJobThatHasEndedUnwatchedKeepsItsResultsAndOneNode) {
  const std::string dir = LeaveJob("ended", 200);
  AwaitState(nodes_ + "/jobs/job/state.json", "SUCCEEDED");
  // The workers' and the servers' nodes are free again; the master's holds what it has learned.
  for (int i = 0; i < 300 && slurm_.Queue().size() > 1; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_THAT(slurm_.Queue(), SizeIs(1));
  const Ended brought = Launch({"launch", "attach", "job"});
  EXPECT_EQ(brought.code, 0) << brought.out << brought.err;
  EXPECT_THAT(brought.out, HasSubstr("SUCCEEDED at step 200 of 200"));
  EXPECT_TRUE(fs::exists(dir + "/export/model.onnx"));
  ExpectGivenBack("job");
}

TEST_F(SlurmTest, WhatWasNotFetchedInTimeIsBroughtFromTheFolderThatIsSeenFromHere) {
  const std::string dir = LeaveJob("late", 200);
  AwaitState(nodes_ + "/jobs/job/state.json", "SUCCEEDED");
  slurm_.Run("scancel -n job");
  ExpectGivenBack("job");
  const Ended brought = Launch({"launch", "attach", "job"});
  EXPECT_EQ(brought.code, 0) << brought.out << brought.err;
  EXPECT_THAT(brought.out, HasSubstr("SUCCEEDED at step 200 of 200"));
  EXPECT_TRUE(fs::exists(dir + "/export/model.onnx"));
  EXPECT_THAT(Launch({"launch", "gc"}).out, HasSubstr("no launch of this user has machines"));
}

TEST_F(SlurmTest, ADryRunShowsWhatSlurmWouldBeGiven) {
  std::vector<std::string> words = LaunchWords(NewFolder("dry"), Job("partition: main"));
  words.emplace_back("--dry-run");
  const Ended run = Launch(words);
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, AllOf(HasSubstr("sbatch --parsable <<'END'"),
                             HasSubstr("#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=4"),
                             HasSubstr("#SBATCH --partition=main"), HasSubstr("scancel")));
  EXPECT_THAT(slurm_.Queue(), IsEmpty());
}

}  // namespace
}  // namespace muster::e2e
