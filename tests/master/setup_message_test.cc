#include "master/setup_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "ps/param_message.h"

namespace muster::master {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class SetupMessageTest : public ::testing::Test {
 protected:
  SetupMessageTest() {
    job_.set_job_id("toy");
    job_.mutable_training()->mutable_checkpoints()->set_interval(4);
    run_.table = *ps::ParamTable::Make({{.name = "w", .shape = {3}}});
    run_.total = 10;
  }

  Job job_;
  RunStart run_;
};

TEST_F(SetupMessageTest, ATrainerLearnsItsLeasesAndTheClocks) {
  const TrainerSetup setup =
      TrainerSetupMessage(job_, run_, 5, {3, 4}, JobDirectory("/job")).trainer_setup();
  EXPECT_EQ(setup.job().job_id(), "toy");
  EXPECT_EQ(setup.num_replicas(), 5);
  EXPECT_THAT(setup.leases(), ElementsAre(3, 4));
  EXPECT_EQ(setup.start_clock(), 0);
  EXPECT_EQ(setup.target_clock(), 10);
  EXPECT_EQ(setup.trace_dir(), "/job/trace");
}

TEST_F(SetupMessageTest, ATrainerOfACodecLearnsWhenToSaveItsResidualsAndWhereTheyLie) {
  const std::vector<int32_t> leases = {1, 2};
  const auto setup = [&](int replicas) {
    return TrainerSetupMessage(job_, run_, replicas, leases, JobDirectory("/job")).trainer_setup();
  };
  EXPECT_THAT(setup(3).residual_cuts(), IsEmpty()) << "nothing is kept back";
  run_.table = *ps::ParamTable::Make({{.name = "w", .shape = {3}, .codec = *MakeCodec("int8")}});
  EXPECT_EQ(setup(3).checkpoint_dir(), "/job/checkpoints");
  EXPECT_THAT(setup(3).residual_cuts(), ElementsAre(4, 8, 10));
  EXPECT_THAT(setup(3).residual_files(), IsEmpty());
  run_.start = 8;
  run_.resume.emplace();
  run_.resume->directory = "/job/checkpoints/step-8";
  run_.resume->manifest.residuals = {{"a", 1}, {"b", 1}, {"c", 1}};
  EXPECT_THAT(setup(3).residual_cuts(), ElementsAre(10));
  EXPECT_THAT(setup(3).residual_files(),
              ElementsAre("/job/checkpoints/step-8/b", "/job/checkpoints/step-8/c"));
  EXPECT_THAT(setup(4).residual_files(), IsEmpty()) << "a replica's is not there";
}

TEST_F(SetupMessageTest, AServerLearnsTheParametersAndWhatToSaveWhen) {
  const ServerSetup setup =
      ServerSetupMessage(job_, run_, 5, 2, JobDirectory("/job")).server_setup();
  EXPECT_EQ(ps::FromMessage(setup.params())->specs().at(0).name, "w");
  EXPECT_EQ(setup.num_servers(), 2);
  EXPECT_EQ(setup.num_replicas(), 5);
  EXPECT_EQ(setup.checkpoint_dir(), "/job/checkpoints");
  EXPECT_THAT(setup.cuts(), ElementsAre(4, 8, 10));
  EXPECT_EQ(setup.trace_dir(), "/job/trace");
  EXPECT_THAT(setup.restore_files(), IsEmpty());
}

TEST_F(SetupMessageTest, AServerOfAResumedRunLearnsWhereItsStateLies) {
  run_.start = 8;
  run_.resume.emplace();
  run_.resume->directory = "/job/checkpoints/step-8";
  run_.resume->manifest.parts = {{"ps-0.safetensors", 7}};
  const ServerSetup setup =
      ServerSetupMessage(job_, run_, 5, 2, JobDirectory("/job")).server_setup();
  EXPECT_THAT(setup.restore_files(), ElementsAre("/job/checkpoints/step-8/ps-0.safetensors"));
  EXPECT_EQ(setup.start_clock(), 8);
  EXPECT_THAT(setup.cuts(), ElementsAre(10));
}

TEST_F(SetupMessageTest, ThePlacementHasLeasesTargetAndTheServersAddressesByIndex) {
  std::vector<Member> members = {Member{{RoleId::Kind::kChief, 0}},
                                 Member{{RoleId::Kind::kServer, 0}},
                                 Member{{RoleId::Kind::kServer, 1}}};
  members[1].params_address = "host:1";
  members[2].params_address = "host:2";
  SetTarget target;
  target.set_clock(9);
  const Placement placement = PlacementMessage(run_, members, {1, 4}, target).placement();
  EXPECT_THAT(placement.leases(), ElementsAre(1, 4));
  EXPECT_EQ(placement.target().clock(), 9);
  EXPECT_FALSE(placement.target().final_evaluation());
  EXPECT_THAT(placement.servers(), ElementsAre("host:1", "host:2"));
  EXPECT_EQ(ps::FromMessage(placement.params())->specs().at(0).name, "w");
}

}  // namespace
}  // namespace muster::master
