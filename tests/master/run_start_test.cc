// Where a run begins and what a finished one hands over, in directories of real toy jobs.
#include "master/run_start.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/device.h"
#include "master/resume.h"
#include "master/run_result.h"
#include "telemetry/file.h"
#include "tests/harness/cluster.h"
#include "tests/harness/temporary_folder.h"
#include "tests/harness/toy_module.h"

namespace muster::master {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class RunStartTest : public ::testing::Test {
 protected:
  // Trains a toy job of ten steps in dir_.
  JobState Train() {
    harness::ClusterOptions options;
    options.job = harness::ToyJob(10);
    options.job_dir = dir_.root();
    const harness::ClusterResult result = harness::Cluster(options).Run();
    EXPECT_TRUE(result.status.ok()) << result.status;
    return result.state;
  }
  absl::StatusOr<RunStart> Find(int64_t steps) {
    return FindRunStart(harness::ToyJob(steps), dir_, /*replicas=*/1, "test",
                        harness::MakeToyModule());
  }

  const harness::TemporaryFolder folder_;
  const JobDirectory dir_{folder_.path()};
};

TEST_F(RunStartTest, AFreshDirectoryStartsAtTheBeginning) {
  const auto run = Find(10);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_FALSE(run->resume.has_value());
  EXPECT_EQ(run->start, 0);
  EXPECT_EQ(run->total, 10);
  const JobState state = InitialState(harness::ToyJob(10), dir_, *run, /*now_ms=*/77);
  EXPECT_EQ(state.job_id, "toy");
  EXPECT_EQ(state.state, RunState::kPreparing);
  EXPECT_EQ(state.create_ms, 77);
  EXPECT_EQ(state.resumed_from, -1);
  EXPECT_TRUE(state.exact);
}

TEST_F(RunStartTest, AResumedRunGoesOnFromTheCheckpointAndItsState) {
  const JobState before = Train();
  const auto run = Find(10);
  ASSERT_TRUE(run.ok()) << run.status();
  ASSERT_TRUE(run->resume.has_value());
  EXPECT_EQ(run->start, 10);
  const JobState state = InitialState(harness::ToyJob(10), dir_, *run, before.update_ms + 1);
  EXPECT_EQ(state.create_ms, before.create_ms);
  EXPECT_EQ(state.metrics.validation_accuracy, before.metrics.validation_accuracy);
  EXPECT_EQ(state.best_checkpoint->step, 10);
  EXPECT_EQ(state.resumed_from, 10);
  EXPECT_EQ(state.step, 10);
}

// A job may go on where its data has another path.
TEST_F(RunStartTest, WhereTheDataLiesIsNoPartOfTheRunsIdentity) {
  Job job = harness::ToyJob(10);
  job.mutable_training_input()->set_python_module("speech_commands.train");
  *job.mutable_training_input()->add_args() = "--data_dir=/here";
  *job.mutable_training_input()->add_args() = "--time_shift_ms=50";
  const auto module = harness::MakeToyModule();
  const auto table = ps::ParamTable::Make(module->MakeModel(*MakeCpuDevice(1))->params());
  const RunIdentity identity = IdentityOf(job, 1, *table, "test");
  EXPECT_THAT(identity.module_flags, ElementsAre(Pair("time_shift_ms", "50")));
}

TEST_F(RunStartTest, ACheckpointThatNamesAFolderOfDataIsTakenToo) {
  Train();
  Job job = harness::ToyJob(20);
  job.mutable_training_input()->set_python_module("speech_commands.train");
  const auto module = harness::MakeToyModule();
  const auto table = ps::ParamTable::Make(module->MakeModel(*MakeCpuDevice(1))->params());
  const RunIdentity now = IdentityOf(job, 1, *table, "test");
  const std::string path = dir_.checkpoint(10) + "/manifest.json";
  auto manifest = DecodeManifest(*ReadFile(path));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  manifest->identity = now;
  manifest->identity.module_flags["data_dir"] = "/there";
  ASSERT_TRUE(WriteFileAtomically(path, EncodeManifest(*manifest)).ok());
  std::vector<std::string> warnings;
  const auto found = FindResumePoint(dir_, now, &warnings);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_TRUE(found->has_value());
}

TEST_F(RunStartTest, ACheckpointBeyondTheJobsEndIsRefused) {
  Train();
  const auto run = Find(9);
  EXPECT_TRUE(absl::IsFailedPrecondition(run.status())) << run.status();
}

TEST_F(RunStartTest, TheResultNamesTheLastCheckpointAndHowGoodTheModelIs) {
  Train();
  const auto run = Find(10);
  ASSERT_TRUE(run.ok()) << run.status();
  JobMetrics metrics;
  metrics.validation_accuracy = 0.75;
  metrics.test_accuracy = 0.5;
  EvaluationPoint testing;
  testing.confusion.assign(16, 1);
  const auto log = Log::Discard();
  const auto result = MakeResult(dir_, *run, metrics, testing, *log);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->step, 10);
  EXPECT_EQ(result->checkpoint, dir_.checkpoint(10));
  EXPECT_EQ(result->validation_accuracy, 0.75);
  EXPECT_EQ(result->test_accuracy, 0.5);
  EXPECT_THAT(result->confusion, HasSubstr("north"));
  EXPECT_EQ(result->model_path, "") << "the toy model has no ONNX form";
}

TEST_F(RunStartTest, WithoutAReadableCheckpointThereIsNoResult) {
  const auto run = Find(10);
  ASSERT_TRUE(run.ok()) << run.status();
  const auto log = Log::Discard();
  const auto result = MakeResult(dir_, *run, {}, {}, *log);
  EXPECT_THAT(std::string(result.status().message()),
              HasSubstr("the model was trained but not exported"));
}

}  // namespace
}  // namespace muster::master
