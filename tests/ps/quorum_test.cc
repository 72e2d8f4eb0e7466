// Which replicas a step counts: the first V - b, whoever tells and in whatever order.
#include "ps/quorum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::ps {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class QuorumTest : public testing::Test {
 protected:
  QuorumTest() {
    for (int i = 0; i < 4; ++i) peers_.push_back(std::make_shared<Peer>(nullptr));
  }
  // Replica v of four lives in process v.
  Quorum::Told Arrived(Quorum& quorum, ReplicaId v, int64_t step) {
    const auto told = quorum.OnArrived(v, step, peers_[static_cast<size_t>(v)]);
    EXPECT_TRUE(told.ok()) << told.status();
    return *told;
  }
  std::vector<std::shared_ptr<Peer>> peers_;
};

TEST_F(QuorumTest, TheFirstToArriveCountAndOnlyTheyAreTold) {
  Quorum quorum(4, 1);
  quorum.Begin(0);
  EXPECT_THAT(Arrived(quorum, 3, 0).peers, IsEmpty());
  EXPECT_THAT(Arrived(quorum, 0, 0).peers, IsEmpty());
  EXPECT_THAT(Arrived(quorum, 0, 0).peers, IsEmpty()) << "said twice, arrived once";
  const Quorum::Told told = Arrived(quorum, 1, 0);
  EXPECT_TRUE(told.now);
  EXPECT_THAT(told.peers, ElementsAre(peers_[3], peers_[0], peers_[1]));
  EXPECT_EQ(told.newest.step, 0);
  EXPECT_THAT(told.newest.counted, ElementsAre(true, true, false, true));
}

TEST_F(QuorumTest, WhoIsLateHearsTheNewestDecisionAtOnce) {
  Quorum quorum(4, 1);
  quorum.Begin(0);
  for (int64_t step = 0; step < 3; ++step) {
    for (const ReplicaId v : {0, 2, 3}) Arrived(quorum, v, step);
  }
  const Quorum::Told told = Arrived(quorum, 1, 0);
  EXPECT_FALSE(told.now);
  EXPECT_THAT(told.peers, ElementsAre(peers_[1]));
  EXPECT_EQ(told.newest.step, 2);
  EXPECT_THAT(told.newest.counted, ElementsAre(true, false, true, true));
  // It takes part from the next step on.
  Arrived(quorum, 1, 3);
  Arrived(quorum, 0, 3);
  EXPECT_THAT(Arrived(quorum, 3, 3).newest.counted, ElementsAre(true, true, false, true));
}

TEST_F(QuorumTest, OneProcessOfTwoReplicasIsToldOnce) {
  Quorum quorum(3, 1);
  quorum.Begin(0);
  ASSERT_TRUE(quorum.OnArrived(0, 0, peers_[0]).ok());
  EXPECT_THAT(quorum.OnArrived(2, 0, peers_[0])->peers, ElementsAre(peers_[0]));
}

TEST_F(QuorumTest, TheOtherServersActOnTheFirstTheyHear) {
  Quorum quorum(3, 1);
  quorum.Begin(5);
  const ReplicaSet counted = {true, true, false};
  EXPECT_EQ(*quorum.OnDecision({5, counted}), true);
  EXPECT_EQ(*quorum.OnDecision({5, counted}), false);
  EXPECT_EQ(*quorum.OnDecision({4, counted}), false) << "of the run before";
  EXPECT_EQ(*quorum.OnDecision({6, counted}), true);
  EXPECT_EQ(quorum.OnDecision({8, counted}).status().message(),
            "step 8 is beyond step 7, which is to be decided first");
}

TEST_F(QuorumTest, AStepThatNobodyCanHaveReachedIsRefused) {
  Quorum quorum(3, 1);
  quorum.Begin(5);
  EXPECT_TRUE(absl::IsFailedPrecondition(quorum.OnArrived(0, 6, peers_[0]).status()));
  EXPECT_EQ(quorum.OnArrived(0, 4, peers_[0])->newest.step, 4) << "the run before decided it";
  EXPECT_TRUE(quorum.OnArrived(0, 5, peers_[0])->peers.empty());
}

}  // namespace
}  // namespace muster::ps
