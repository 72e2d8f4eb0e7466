// What Slurm is asked, and what it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cluster/slurm.h"

namespace muster::cluster {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

SlurmRequest Request() {
  return {.job_id = "j1",
          .log_path = "/d/slurm-%j.log",
          .max_running_s = 3601,
          .components = {{Role::kMaster, 1, 8, 30, 0}, {Role::kWorker, 4, 16, 60, 2}}};
}

TEST(Slurm, TheScriptAsksForAllMachinesAtOnce) {
  Slurm slurm;
  slurm.set_partition("gpu");
  slurm.add_options("--exclusive");
  const std::string script = SlurmScript(Request(), slurm);
  EXPECT_THAT(script.substr(0, script.find("# Holds")),
              "#!/bin/sh\n"
              "#SBATCH --job-name=j1\n"
              "#SBATCH --time=61\n"
              "#SBATCH --output=/d/slurm-%j.log\n"
              "#SBATCH --no-requeue\n"
              "#SBATCH --nodes=1 --ntasks-per-node=1 --cpus-per-task=8\n"
              "#SBATCH --mem=30720M\n"
              "#SBATCH --partition=gpu\n"
              "#SBATCH --exclusive\n"
              "#SBATCH hetjob\n"
              "#SBATCH --job-name=j1\n"
              "#SBATCH --time=61\n"
              "#SBATCH --nodes=4 --ntasks-per-node=1 --cpus-per-task=16\n"
              "#SBATCH --mem=61440M\n"
              "#SBATCH --gres=gpu:2\n"
              "#SBATCH --partition=gpu\n"
              "#SBATCH --exclusive\n");
}

TEST(Slurm, AJobOfOneMachineIsAPlainOne) {
  SlurmRequest request = Request();
  request.components.resize(1);
  EXPECT_THAT(SlurmScript(request, Slurm()), Not(HasSubstr("hetjob")));
  for (const std::string& word : SrunWords("7", -1, "n1", 8, "x")) {
    EXPECT_THAT(word, Not(HasSubstr("het-group")));
  }
}

TEST(Slurm, QueueLinesAreReadByComponent) {
  const auto status =
      ParseSqueue("12+1|13|PENDING|Resources|\n12+0|12|RUNNING|None|n1\n12+2|14|RUNNING||n[2-3]\n");
  ASSERT_TRUE(status.ok()) << status.status();
  ASSERT_EQ(status->size(), 3U);
  EXPECT_EQ((*status)[0].nodes, "n1");
  EXPECT_EQ((*status)[1].reason, "Resources");
  EXPECT_EQ((*status)[2].job, "14");
  EXPECT_EQ(ParseSqueue("12|12|RUNNING|None|n1\n")->size(), 1U);
  EXPECT_TRUE(ParseSqueue("")->empty());
  for (const char* text : {"12", "12|a|b|c", "12+x|1|R|N|n", "slurm_load_jobs error\n"}) {
    EXPECT_FALSE(ParseSqueue(text).ok()) << text;
  }
}

TEST(Slurm, ComplaintsBecomeOneLine) {
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
