#include "master/membership.h"

#include <gtest/gtest.h>

namespace muster::master {
namespace {

using Kind = RoleId::Kind;
using State = Member::State;

Membership OneOfEach() {
  return Membership(1, 1, 1, /*start_timeout_ms=*/1000, /*silence_ms=*/500, 0);
}

TEST(Membership, RegistersEachExpectedRoleOnce) {
  Membership membership = OneOfEach();
  EXPECT_TRUE(membership.Register({Kind::kWorker, 0}, 1).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(membership.Register({Kind::kWorker, 0}, 2).status()));
  EXPECT_TRUE(absl::IsNotFound(membership.Register({Kind::kWorker, 1}, 2).status()));
}

TEST(Membership, AKindIsInAStateWhenAllOfItAre) {
  Membership membership(0, 2, 1, 1000, 500, 0);
  EXPECT_FALSE(membership.All(Kind::kWorker, State::kRegistered));
  (*membership.Register({Kind::kWorker, 0}, 1))->state = State::kReady;
  EXPECT_FALSE(membership.All(Kind::kWorker, State::kRegistered));
  (void)membership.Register({Kind::kWorker, 1}, 1);
  EXPECT_TRUE(membership.All(Kind::kWorker, State::kRegistered));
  EXPECT_FALSE(membership.All(Kind::kWorker, State::kReady));
  membership.Find({Kind::kWorker, 1})->state = State::kLost;
  EXPECT_FALSE(membership.All(Kind::kWorker, State::kRegistered));
  EXPECT_TRUE(membership.All(Kind::kChief, State::kReady)) << "none is expected";
}

TEST(Membership, NamesTheRoleThatNeverRegistered) {
  Membership membership = OneOfEach();
  for (RoleId role : {RoleId{Kind::kChief, 0}, RoleId{Kind::kServer, 0}}) {
    (*membership.Register(role, 900))->last_seen_ms = 1001;
  }
  EXPECT_TRUE(membership.CheckTime(1000).ok());
  EXPECT_EQ(membership.CheckTime(1001).message(),
            "worker-0 has not registered within 1 s (cluster.startTimeoutS)");
}

TEST(Membership, NamesTheRoleThatFellSilent) {
  Membership membership(1, 0, 0, 1000, 500, 0);
  Member* chief = *membership.Register({Kind::kChief, 0}, 100);
  chief->pid = 12;
  chief->host = "h";
  EXPECT_TRUE(membership.CheckTime(600).ok());
  EXPECT_EQ(membership.CheckTime(1700).message(), "chief-0 (pid 12 on h) has been silent for 1 s");
  chief->state = State::kFinished;
  EXPECT_TRUE(membership.CheckTime(1700).ok()) << "who has finished may be silent";
}

TEST(Membership, RolesAreNamedAsTheirHelloSays) {
  EXPECT_EQ(RoleName(*ParseRole("worker", 3)), "worker-3");
  EXPECT_EQ(RoleName(*ParseRole("ps", 0)), "ps-0");
  EXPECT_EQ(RoleName(*ParseRole("chief", 0)), "chief-0");
  EXPECT_FALSE(ParseRole("master", 0).has_value());
}

TEST(Membership, ReplicasAreDividedAmongTheTrainersTheChiefFirst) {
  Membership membership(1, 2, 1, 1000, 500, 0);
  membership.AssignLeases(4);
  EXPECT_EQ(membership.Find({Kind::kChief, 0})->leases, (std::vector<int32_t>{0}));
  EXPECT_EQ(membership.Find({Kind::kWorker, 0})->leases, (std::vector<int32_t>{1}));
  EXPECT_EQ(membership.Find({Kind::kWorker, 1})->leases, (std::vector<int32_t>{2, 3}));
  EXPECT_TRUE(membership.Find({Kind::kServer, 0})->leases.empty());
}

TEST(Membership, TrainersAreChiefAndWorkers) {
  Membership membership = OneOfEach();
  membership.Find({Kind::kChief, 0})->state = State::kReady;
  EXPECT_FALSE(membership.AllTrainers(State::kReady));
  membership.Find({Kind::kWorker, 0})->state = State::kReady;
  EXPECT_TRUE(membership.AllTrainers(State::kReady));
}

}  // namespace
}  // namespace muster::master
