#include "cluster/local_roles.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::cluster {
namespace {

using ::testing::ElementsAre;

Job Custom(int workers, int servers) {
  Job job;
  job.set_job_id("job");
  TrainingInput& input = *job.mutable_training_input();
  input.set_scale_tier(CUSTOM);
  input.set_master_type("complex_model_m");
  input.set_worker_type("complex_model_m");
  input.set_parameter_server_type("large_model");
  input.set_worker_count(workers);
  input.set_parameter_server_count(servers);
  return job;
}

std::vector<std::string> Names(const std::vector<LocalRole>& roles) {
  std::vector<std::string> names;
  for (const LocalRole& role : roles) {
    names.push_back(fmt::format("{} {}-{} x{}", role.program, role.role, role.index, role.threads));
  }
  return names;
}

TEST(LocalRolesTest, BasicIsOneProcessWithAllThreads) {
  Job job;
  job.mutable_training_input()->set_scale_tier(BASIC);
  EXPECT_THAT(Names(LocalRoles(job, 8)), ElementsAre("master master-0 x8"));
}

TEST(LocalRolesTest, TrainersShareTheCores) {
  EXPECT_THAT(Names(LocalRoles(Custom(2, 1), 8)),
              ElementsAre("master master-0 x1", "ps ps-0 x1", "worker chief-0 x2",
                          "worker worker-0 x2", "worker worker-1 x2"));
}

TEST(LocalRolesTest, TheNineWorkerJobIsFourteenProcessesOfThirteenReplicas) {
  const auto roles = LocalRoles(Custom(9, 3), 2);
  EXPECT_EQ(roles.size(), 14u);
  EXPECT_EQ(roles.back().threads, 1);
  EXPECT_EQ(roles.back().sized_by, "trainingInput.workerCount");
}

TEST(LocalRolesTest, AChiefThatDoesNotTrainHasNoProcess) {
  Job job = Custom(2, 0);
  job.mutable_training()->set_chief_trains(false);
  EXPECT_THAT(Names(LocalRoles(job, 8)),
              ElementsAre("master master-0 x1", "worker worker-0 x4", "worker worker-1 x4"));
}

TEST(LocalRolesTest, WithoutWorkersTheChiefTrainsWhateverTheFileSays) {
  Job job = Custom(0, 1);
  job.mutable_training()->set_chief_trains(false);
  EXPECT_THAT(Names(LocalRoles(job, 2)),
              ElementsAre("master master-0 x1", "ps ps-0 x1", "worker chief-0 x2"));
}

TEST(LocalRolesTest, ThreadsOfTheJobFileWin) {
  Job job = Custom(2, 1);
  job.mutable_training()->set_threads(3);
  EXPECT_EQ(LocalRoles(job, 8).back().threads, 3);
}

TEST(LocalRolesTest, TrainersAreToldHowToUseTheirGpus) {
  Job job = Custom(1, 1);
  job.mutable_training()->set_precision(Training::BF16);
  EXPECT_THAT(LocalRoles(job, 2).back().arguments,
              ElementsAre("--device=AUTO", "--precision=BF16"));
  job.mutable_training()->set_cuda_graphs(true);
  EXPECT_THAT(LocalRoles(job, 2).back().arguments,
              ElementsAre("--device=AUTO", "--precision=BF16"));
  job.mutable_training()->set_cuda_graphs(false);
  EXPECT_THAT(LocalRoles(job, 2).back().arguments,
              ElementsAre("--device=AUTO", "--precision=BF16", "--cuda-graphs=false"));
}

TEST(LocalRolesTest, ShardsHaveCoresOfTheirOwnWhereAllThreadsHave) {
  Job job = Custom(1, 2);
  job.mutable_training()->set_threads(2);
  job.mutable_training()->set_server_shards(2);
  const auto first_cores = [&](int cores) {
    std::vector<int> out;
    for (const LocalRole& role : LocalRoles(job, cores)) out.push_back(role.first_core);
    return out;
  };
  // master, two servers, chief, worker: two trainers with two threads, two servers with two shards.
  EXPECT_THAT(first_cores(8), ElementsAre(-1, 4, 6, -1, -1));
  EXPECT_THAT(first_cores(12), ElementsAre(-1, 8, 10, -1, -1));
  EXPECT_THAT(first_cores(7), ElementsAre(-1, -1, -1, -1, -1));
}

TEST(LocalRolesTest, TrainersClaimTheGpusOfTheirMachineTypes) {
  Job job = Custom(2, 1);
  job.mutable_training_input()->set_worker_type("complex_model_m_gpu");
  const auto claims = [](const std::vector<LocalRole>& roles) {
    std::vector<std::string> texts;
    for (const LocalRole& role : roles) {
      if (!role.gpus) continue;
      texts.push_back(fmt::format("{}-{}: {} for {} of {}", role.role, role.index,
                                  role.gpus->wanted, role.gpus->process, role.gpus->processes));
    }
    return texts;
  };
  std::vector<LocalRole> roles = LocalRoles(job, 8);  // master, ps, chief and two workers
  EXPECT_THAT(claims(roles), ElementsAre("chief-0: 1 for 0 of 3", "worker-0: 4 for 1 of 3",
                                         "worker-1: 4 for 2 of 3"));
  ShareGpus({0, 0, 0, 1, 0}, &roles);
  EXPECT_THAT(claims(roles), ElementsAre("chief-0: 1 for 0 of 2", "worker-0: 4 for 0 of 1",
                                         "worker-1: 4 for 1 of 2"))
      << "on two hosts";

  Job alone = Custom(0, 0);
  alone.mutable_training_input()->set_master_type("n1-standard-8");
  AcceleratorConfig& attached =
      *alone.mutable_training_input()->mutable_master_config()->mutable_accelerator_config();
  attached.set_count(2);
  attached.set_type("NVIDIA_TESLA_T4");
  EXPECT_THAT(claims(LocalRoles(alone, 8)), ElementsAre("master-0: 2 for 0 of 1"));
}

TEST(LocalRolesTest, TheRolesOfATierAreSizedByTheTier) {
  Job job;
  job.mutable_training_input()->set_scale_tier(STANDARD_1);
  const auto roles = LocalRoles(job, 2);
  EXPECT_EQ(roles.size(), 1u + 1 + 4 + 3);
  EXPECT_EQ(roles.back().sized_by, "trainingInput.scaleTier");
}

TEST(MakeLocalJobTest, TakesTheLimitsFromTheFile) {
  Job job = Custom(2, 1);
  EXPECT_EQ(MakeLocalJob(job, 2).start_timeout_ms, 60'000);
  EXPECT_EQ(MakeLocalJob(job, 2).max_running_ms, 604'800'000);
  EXPECT_TRUE(MakeLocalJob(job, 2).shared_memory);
  job.mutable_cluster()->set_shared_memory(false);
  EXPECT_FALSE(MakeLocalJob(job, 2).shared_memory);
  job.mutable_cluster()->set_start_timeout_s(5);
  job.mutable_training_input()->mutable_scheduling()->mutable_max_running_time()->set_seconds(7200);
  job.mutable_training()->add_schedule()->set_steps(15'000);
  job.mutable_training()->add_schedule()->set_steps(3'000);
  const LocalJob local = MakeLocalJob(job, 2);
  EXPECT_EQ(local.start_timeout_ms, 5'000);
  EXPECT_EQ(local.max_running_ms, 7'200'000);
  EXPECT_EQ(local.total_steps, 18'000);
  EXPECT_EQ(local.tf.workers, 2);
}

}  // namespace
}  // namespace muster::cluster
