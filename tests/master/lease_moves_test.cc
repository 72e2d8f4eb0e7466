#include "master/lease_moves.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

namespace muster::master {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Three trainers of a replica each, who have begun.
LeaseMoves Three() {
  LeaseMoves moves(3, 3);
  for (int t = 0; t < 3; ++t) moves.Join(t);
  EXPECT_FALSE(moves.settled());
  EXPECT_THAT(moves.Take().begin, ElementsAre(0, 1, 2));
  EXPECT_TRUE(moves.settled());
  return moves;
}

TEST(LeaseMoves, EverybodyBeginsAtHome) {
  const LeaseMoves moves = Three();
  for (int t = 0; t < 3; ++t) EXPECT_EQ(moves.leases(t), moves.home(t));
  EXPECT_EQ(moves.moves(), 0);
}

TEST(LeaseMoves, WhoLeavesAndWhoTakesItsReplicaPauseBeforeAnybodyBegins) {
  LeaseMoves moves = Three();
  moves.Leave(2);
  EXPECT_THAT(moves.planned(0), ElementsAre(0, 2));
  LeaseMoves::Actions actions = moves.Take();
  EXPECT_THAT(actions.pause, ElementsAre(0, 2)) << "trainer 1 trains on";
  EXPECT_FALSE(moves.settled());
  moves.OnPaused(0);
  actions = moves.Take();
  EXPECT_THAT(actions.begin, IsEmpty()) << "trainer 2 may still compute";
  moves.OnPaused(2);
  actions = moves.Take();
  EXPECT_THAT(actions.begin, ElementsAre(0));
  EXPECT_THAT(actions.let_go, ElementsAre(2));
  EXPECT_THAT(moves.leases(0), ElementsAre(0, 2));
  EXPECT_TRUE(moves.settled());
  EXPECT_EQ(moves.moves(), 1);
}

TEST(LeaseMoves, ForOneThatIsLostOnlyItsHeirPauses) {
  LeaseMoves moves = Three();
  moves.Lose(1);
  EXPECT_THAT(moves.Take().pause, ElementsAre(0));
  EXPECT_FALSE(moves.settled());
  moves.OnPaused(0);
  EXPECT_THAT(moves.Take().begin, ElementsAre(0));
  EXPECT_THAT(moves.leases(0), ElementsAre(0, 1));
}

TEST(LeaseMoves, WhoComesBackGetsItsReplicaBack) {
  LeaseMoves moves = Three();
  moves.Lose(1);
  moves.Take();
  moves.OnPaused(0);
  moves.Take();
  moves.Join(1);
  EXPECT_THAT(moves.Take().pause, ElementsAre(0));
  moves.OnPaused(0);
  EXPECT_THAT(moves.Take().begin, ElementsAre(0, 1));
  EXPECT_EQ(moves.leases(1), moves.home(1));
  EXPECT_EQ(moves.moves(), 2);
}

TEST(LeaseMoves, WhoCannotGoOnPausesAndBeginsAnewAndTheOthersTrainOn) {
  LeaseMoves moves = Three();
  moves.BeginAnew(1);
  EXPECT_THAT(moves.Take().pause, ElementsAre(1));
  EXPECT_FALSE(moves.settled());
  moves.BeginAnew(1);
  EXPECT_THAT(moves.Take().pause, IsEmpty()) << "it was told";
  moves.OnPaused(1);
  EXPECT_THAT(moves.Take().begin, ElementsAre(1));
  EXPECT_EQ(moves.leases(1), moves.home(1));
  EXPECT_TRUE(moves.settled());
  EXPECT_EQ(moves.moves(), 0);
}

TEST(LeaseMoves, TheLastCannotBeSpared) {
  LeaseMoves moves = Three();
  moves.Leave(0);
  moves.Lose(1);
  EXPECT_FALSE(moves.CanSpare(2));
  EXPECT_TRUE(moves.CanSpare(0)) << "it leaves already";
}

TEST(LeaseMoves, ASecondWordThatItHasPausedChangesNothing) {
  LeaseMoves moves = Three();
  moves.OnPaused(1);
  EXPECT_THAT(moves.Take().pause, IsEmpty());
  EXPECT_EQ(moves.leases(1), moves.home(1));
  EXPECT_TRUE(moves.settled());
}

// Trainers that do as they are told, late, and come and go as they like.
TEST(LeaseMoves, WhateverHappensEachReplicaHasAtMostOneTrainerAndInTheEndOne) {
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const int trainers = static_cast<int>(random() % 5) + 2;
    const int replicas = trainers + static_cast<int>(random() % 4);
    LeaseMoves moves(replicas, trainers);
    enum class Role { kAway, kThere, kLeaving };
    std::vector<Role> roles(trainers, Role::kThere);
    std::vector<bool> computes(trainers, false), told(trainers, false);  // to pause
    const auto act = [&] {
      const LeaseMoves::Actions actions = moves.Take();
      for (const int t : actions.pause) {
        ASSERT_TRUE(computes[t] && !told[t]);
        told[t] = true;
      }
      for (const int t : actions.begin) {
        ASSERT_EQ(roles[t], Role::kThere);
        ASSERT_FALSE(computes[t]);
        ASSERT_FALSE(moves.leases(t).empty());
        computes[t] = true;
      }
      for (const int t : actions.let_go) {
        ASSERT_EQ(roles[t], Role::kLeaving);
        ASSERT_FALSE(computes[t]);
        roles[t] = Role::kAway;
      }
      std::set<int32_t> computed;
      for (int t = 0; t < trainers; ++t) {
        if (!computes[t]) continue;
        for (const int32_t v : moves.leases(t)) ASSERT_TRUE(computed.insert(v).second) << v;
      }
      const bool none_told = std::ranges::find(told, true) == told.end();
      ASSERT_EQ(moves.settled(), none_told && computed.size() == static_cast<size_t>(replicas));
      ASSERT_TRUE(moves.settled() || !none_told) << "nobody is waited for";
    };
    for (int t = 0; t < trainers; ++t) moves.Join(t);
    ASSERT_NO_FATAL_FAILURE(act());
    for (int i = 0; i < 40; ++i) {
      const int t = static_cast<int>(random() % trainers);
      switch (random() % 5) {
        case 0:
          if (roles[t] == Role::kThere && moves.CanSpare(t)) {
            moves.Leave(t);
            roles[t] = Role::kLeaving;
          }
          break;
        case 1:
          if (roles[t] != Role::kAway && moves.CanSpare(t)) {
            moves.Lose(t);
            roles[t] = Role::kAway;
            computes[t] = told[t] = false;
          }
          break;
        case 2:
          if (roles[t] == Role::kAway) {
            moves.Join(t);
            roles[t] = Role::kThere;
          }
          break;
        case 3:
          if (roles[t] != Role::kAway) moves.BeginAnew(t);
          break;
        default:
          if (told[t]) {
            moves.OnPaused(t);
            computes[t] = told[t] = false;
          }
      }
      ASSERT_NO_FATAL_FAILURE(act());
    }
    for (int t = 0; t < trainers; ++t) {
      if (!told[t]) continue;
      moves.OnPaused(t);
      computes[t] = told[t] = false;
      ASSERT_NO_FATAL_FAILURE(act());
    }
    EXPECT_TRUE(moves.settled());
  }
}

}  // namespace
}  // namespace muster::master
