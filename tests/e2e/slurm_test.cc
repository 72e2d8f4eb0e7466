// Jobs on nodes that a Slurm gives: a real one, on this machine (tests/e2e/slurm_cluster.h).
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "tests/e2e/programs.h"
#include "tests/e2e/slurm_cluster.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;
using master::RunState;
using ::testing::AllOf;
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
  Ended Launch(const std::vector<std::string>& words) {
    return Running(words, /*unprivileged=*/false, slurm_.environment()).Wait();
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
  // The nodes have what the machine types say, all of them at once.
  const std::string script = Contents(there + "/job/slurm.sh");
  EXPECT_THAT(script, HasSubstr("#SBATCH --nodes=1 --ntasks-per-node=1 --cpus-per-task=4"));
  EXPECT_THAT(script, HasSubstr("#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=4"));
  EXPECT_THAT(script, HasSubstr("#SBATCH --mem=15360M"));
}

TEST_F(SlurmTest, AJobThatWaitsSaysWhyAndIsGivenUpInOrder) {
  slurm_.SetNode(4, /*up=*/false);
  Running run(LaunchWords(NewFolder("waits"), Job()), false, slurm_.environment());
  ASSERT_TRUE(run.WaitFor("waiting for nodes: ")) << run.out();
  EXPECT_THAT(slurm_.Queue(), SizeIs(3)) << "the components of one job";
  // A second one of the name is not queued behind it.
  const Ended second = Launch(LaunchWords(NewFolder("again"), Job()));
  EXPECT_EQ(second.code, 2);
  EXPECT_THAT(second.err, AllOf(HasSubstr("Slurm has a job of this name"), HasSubstr("scancel")));
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait().code, 130);
  ExpectGivenBack("job");
}

TEST_F(SlurmTest, NodesThatComeLateAreUsed) {
  slurm_.SetNode(4, /*up=*/false);
  Running run(LaunchWords(NewFolder("late"), Job()), false, slurm_.environment());
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

TEST_F(SlurmTest, AJobThatCannotBeLeftIsNotBegun) {
  std::vector<std::string> words = LaunchWords(NewFolder("async"), Job());
  words.emplace_back("--async");
  const Ended refused = Launch(words);
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("the job cannot be left: Slurm ends"));
  ExpectForHumans(refused);
  EXPECT_THAT(slurm_.Queue(), IsEmpty());
}

}  // namespace
}  // namespace muster::e2e
