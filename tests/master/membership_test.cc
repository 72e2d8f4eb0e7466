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

TEST(Membership, FindsTheRoleThatFellSilent) {
  Membership membership(1, 1, 0, 1000, 500, 0);
  Member* chief = *membership.Register({Kind::kChief, 0}, 100);
  EXPECT_EQ(membership.FindSilent(600), nullptr);
  EXPECT_EQ(membership.FindSilent(1700), chief) << "one that never came is not silent";
  chief->state = State::kFinished;
  EXPECT_EQ(membership.FindSilent(1700), nullptr) << "who has finished may be silent";
}

TEST(Membership, WhereNobodyCouldBeHeardNobodyWasSilent) {
  Membership membership = OneOfEach();
  Member* chief = *membership.Register({Kind::kChief, 0}, 100);
  membership.NoteDeaf(10'000, 10'300);
  EXPECT_TRUE(membership.CheckTime(10'900).ok()) << "nor late";
  EXPECT_FALSE(membership.CheckTime(11'001).ok());
  EXPECT_EQ(chief->last_seen_ms, 10'100);
  EXPECT_EQ(membership.FindSilent(10'600), nullptr);
  EXPECT_EQ(membership.FindSilent(10'601), chief);
  // One who was heard meanwhile, all the same; and a clock that was set back.
  membership.NoteDeaf(10'000, 10'400);
  EXPECT_EQ(chief->last_seen_ms, 10'400);
  membership.NoteDeaf(0, 5'400);
  EXPECT_EQ(chief->last_seen_ms, 5'400);
}

TEST(Membership, RolesAreNamedAsTheirHelloSays) {
  EXPECT_EQ(RoleName(*ParseRole("worker", 3)), "worker-3");
  EXPECT_EQ(RoleName(*ParseRole("ps", 0)), "ps-0");
  EXPECT_EQ(RoleName(*ParseRole("chief", 0)), "chief-0");
  EXPECT_FALSE(ParseRole("master", 0).has_value());
}

TEST(Membership, ThePlaceOfOneThatIsGoneIsFree) {
  Membership membership = OneOfEach();
  const RoleId worker = {Kind::kWorker, 0};
  for (const State gone : {State::kLost, State::kLeft}) {
    Member* member = *membership.Register(worker, 1);
    member->state = gone;
    member->pid = 7;
    member->clock = 9;
    EXPECT_TRUE(membership.CheckTime(900).ok());
    const auto again = membership.Register(worker, 2);
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ((*again)->state, State::kRegistered);
    EXPECT_EQ((*again)->pid, 0) << "what was known of the other is forgotten";
    EXPECT_EQ((*again)->clock, 0);
    EXPECT_FALSE(membership.Register(worker, 3).ok());
    (*again)->state = State::kLost;
  }
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
