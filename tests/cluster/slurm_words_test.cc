// What Slurm is asked, and what it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/slurm.h"

namespace muster::cluster {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::Pair;

MachineOrder Order() {
  MachineOrder order{
      .job_id = "j1", .run = "mu12", .owner = "a b@h", .attempt = 1, .lifetime_s = 3601};
  order.groups.push_back({.role = Role::kMaster, .count = 1, .vcpus = 8, .memory_gb = 30});
  order.groups.push_back(
      {.role = Role::kWorker, .count = 4, .vcpus = 16, .memory_gb = 60, .gpus = 2});
  return order;
}

TEST(SlurmWords, TheScriptAsksForAllMachinesAtOnce) {
  Slurm slurm;
  slurm.set_partition("gpu");
  slurm.add_options("--exclusive");
  const std::string script = SlurmScript(Order(), slurm, "/opt/it's", "~/.muster/jobs/j1");
  EXPECT_EQ(script.substr(0, script.find("umask")),
            "#!/bin/sh\n"
            "#SBATCH --output=/dev/null\n"
            "#SBATCH --no-requeue\n"
            "#SBATCH --job-name=j1\n"
            "#SBATCH --comment=muster:mu12:1:master:a-b@h\n"
            "#SBATCH --time=61\n"
            "#SBATCH --nodes=1 --ntasks-per-node=1 --cpus-per-task=8\n"
            "#SBATCH --mem=30720M\n"
            "#SBATCH --partition=gpu\n"
            "#SBATCH --exclusive\n"
            "#SBATCH hetjob\n"
            "#SBATCH --job-name=j1\n"
            "#SBATCH --comment=muster:mu12:1:worker:a-b@h\n"
            "#SBATCH --time=61\n"
            "#SBATCH --nodes=4 --ntasks-per-node=1 --cpus-per-task=16\n"
            "#SBATCH --mem=61440M\n"
            "#SBATCH --gres=gpu:2\n"
            "#SBATCH --partition=gpu\n"
            "#SBATCH --exclusive\n");
  EXPECT_THAT(script, HasSubstr("p='/opt/it'\\''s'\nd=\"$HOME\"/'.muster/jobs/j1'\n"));
}

TEST(SlurmWords, EachKindOfMachineHasItsKeepersAndGoesWithThem) {
  const std::string script = SlurmScript(Order(), Slurm(), "/p", "/d");
  EXPECT_THAT(script.substr(script.find("(keep")),
              "(keep 0 --het-group=0 --nodes=1 --ntasks=1 --cpus-per-task=8) &\n"
              "(keep 1 --het-group=1 --nodes=4 --ntasks=4 --cpus-per-task=16; scancel --quiet "
              "\"$SLURM_JOB_ID_HET_GROUP_1\") &\n"
              "wait\n");
}

TEST(SlurmWords, AJobOfOneMachineIsAPlainOne) {
  MachineOrder order = Order();
  order.groups.resize(1);
  const std::string script = SlurmScript(order, Slurm(), "/p", "/d");
  EXPECT_THAT(script, Not(AnyOf(HasSubstr("hetjob"), HasSubstr("het-group"))));
  EXPECT_THAT(SrunWords("7", "n1", 8, "x"), Not(Contains(HasSubstr("het-group"))));
  EXPECT_THAT(SrunWords("7+2", "n1", 8, "x"),
              AllOf(Contains("--jobid=7"), Contains("--het-group=2")));
}

TEST(SlurmWords, ATerminalIsAStepBesideWhatRuns) {
  EXPECT_THAT(SrunTerminalWords("7+2", "n1", {.command = {"ls", "a b"}}),
              AllOf(Contains("--jobid=7"), Contains("--het-group=2"), Contains("--nodelist=n1"),
                    Contains("--overlap"), Contains("a b"), Not(Contains("--pty"))));
  EXPECT_THAT(SrunTerminalWords("7", "n1", {.types = true}),
              AllOf(Contains("--pty"), Contains("/bin/sh")));
}

TEST(SlurmWords, OfTheQueueOurComponentsAreRead) {
  const auto found = ParseSqueue(
      "12+1|PENDING|3|16||Resources|muster:mu12:1:worker:me@h|j1\n"
      "12+0|RUNNING|1|8|n[1]|None|muster:mu12:1:master:me@h|j1\n"
      "13|RUNNING|1|8|n2|None|(null)|j1\n"
      "14|RUNNING|1|8|n2|None|muster:mu12:x:master:me@h|j1\n"
      "15|RUNNING|1|8|n2|None|muster:mu12:1:cook:me@h|j1\n"
      "16|RUNNING|1|8|n2|None|muster:mu12:1:ps:me@h|a|b\n"
      "17|RUNNING\n"
      "slurm_load_jobs error\n");
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].id, "12+1");
  EXPECT_EQ(found[0].role, Role::kWorker);
  EXPECT_EQ(found[0].nodes, 3);
  EXPECT_EQ(found[0].reason, "Resources");
  EXPECT_EQ(found[1].state, "RUNNING");
  EXPECT_EQ(found[1].cpus, 8);
  EXPECT_EQ(found[1].node_list, "n[1]");
  EXPECT_EQ(found[1].reason, "");
  EXPECT_EQ(found[1].run, "mu12");
  EXPECT_EQ(found[1].owner, "me@h");
  EXPECT_TRUE(ParseSqueue("").empty());
}

TEST(SlurmWords, NodesHaveAddresses) {
  const auto addresses = ParseNodeAddresses(
      "NodeName=n2 Arch=x86_64 Gres=(null) NodeAddr=10.0.0.2 NodeHostName=a\nNodeName=n3 "
      "NodeAddr=10.0.0.3\nnonsense\n");
  EXPECT_THAT(addresses, ElementsAre(Pair("n2", "10.0.0.2"), Pair("n3", "10.0.0.3")));
}

TEST(SlurmWords, WhoHasNotAnsweredMayHaveHeard) {
  EXPECT_TRUE(
      IsWithoutAnswer("sbatch: error: Batch job submission failed: Socket timed out on "
                      "send/recv operation\n"));
  EXPECT_FALSE(IsWithoutAnswer("sbatch: error: invalid partition specified: x\n"));
}

TEST(SlurmWords, ComplaintsBecomeOneLine) {
  EXPECT_EQ(ExplainSlurm("sbatch: error: Batch job submission failed: Invalid account or "
                         "account/partition combination specified\n"),
            "Batch job submission failed: Invalid account or account/partition combination "
            "specified: name one of yours in cluster.slurm.account");
  EXPECT_EQ(ExplainSlurm("squeue: fatal: Could not establish a configuration source\n"),
            "fatal: Could not establish a configuration source: is this a node of the cluster?");
  EXPECT_EQ(ExplainSlurm(""), "it ended without a word");
}

}  // namespace
}  // namespace muster::cluster
