// What a client makes of ACKs and decisions where steps do without late replicas.
#include "ps/standings.h"

#include <gtest/gtest.h>

#include <string>

namespace muster::ps {
namespace {

// A decision's payload: replica 0 is the lowest bit.
std::string Bits(char byte) { return {byte}; }

TEST(StandingsTest, AGradientIsWholeWithTheAckOfItsLastSlice) {
  Standings standings(/*slices=*/2);
  EXPECT_FALSE(standings.OnAck(0, 4));
  EXPECT_FALSE(standings.OnAck(1, 4)) << "another replica's";
  EXPECT_FALSE(standings.waiting());
  EXPECT_TRUE(standings.OnAck(0, 4));
  EXPECT_TRUE(standings.waiting()) << "for who is counted";
  EXPECT_TRUE(standings.OnDecision(4, Bits(0b01)));
  EXPECT_FALSE(standings.waiting());
  EXPECT_EQ(standings.decided(), 4);
}

TEST(StandingsTest, AStepThatWasGivenUpHalfwayBeginsAnew) {
  Standings standings(2);
  EXPECT_FALSE(standings.OnAck(0, 4));
  EXPECT_FALSE(standings.OnAck(0, 7));
  EXPECT_TRUE(standings.OnAck(0, 7));
}

TEST(StandingsTest, StepsThatDidWithoutAReplicaAreMissed) {
  Standings standings(1);
  standings.OnAck(0, 3);
  standings.OnAck(1, 3);
  EXPECT_TRUE(standings.OnDecision(3, Bits(0b01)));
  EXPECT_EQ(standings.missed(0), 0);
  EXPECT_EQ(standings.missed(1), 1);
  EXPECT_FALSE(standings.OnDecision(3, Bits(0b10))) << "known";
  EXPECT_FALSE(standings.OnDecision(2, Bits(0b10))) << "older";
  EXPECT_EQ(standings.missed(1), 1);
  EXPECT_TRUE(standings.OnDecision(6, Bits(0b11)));
  EXPECT_EQ(standings.missed(1), 3) << "4 and 5 were decided without a word";
  EXPECT_EQ(standings.missed(9), 0) << "not ours";
}

TEST(StandingsTest, AReplicaThatBeginsLateMissedNothingBefore) {
  Standings standings(1);
  EXPECT_TRUE(standings.OnDecision(10, Bits(0)));
  standings.OnAck(0, 11);
  EXPECT_TRUE(standings.OnDecision(11, Bits(0b1)));
  EXPECT_EQ(standings.missed(0), 0);
}

TEST(StandingsTest, OneAsksOnceForEachClockThatIsGone) {
  Standings standings(3);
  EXPECT_TRUE(standings.OnGone(5));
  EXPECT_FALSE(standings.OnGone(5)) << "of another slice";
  EXPECT_FALSE(standings.OnGone(4));
  EXPECT_TRUE(standings.OnGone(6));
}

}  // namespace
}  // namespace muster::ps
