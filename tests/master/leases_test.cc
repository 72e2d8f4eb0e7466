#include "master/leases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace muster::master {
namespace {

using All = std::vector<Leases>;

TEST(Leases, OneReplicaEachWhenThereAreAsManyTrainers) {
  EXPECT_EQ(AssignLeases(3, 3), (All{{0}, {1}, {2}}));
}

TEST(Leases, ContiguousAndEvenOtherwise) {
  EXPECT_EQ(AssignLeases(5, 2), (All{{0, 1}, {2, 3, 4}}));
  EXPECT_EQ(AssignLeases(5, 1), (All{{0, 1, 2, 3, 4}}));
}

TEST(Leases, EveryReplicaOnceForAllSizes) {
  for (int replicas = 1; replicas <= 40; ++replicas) {
    for (int trainers = 1; trainers <= replicas; ++trainers) {
      int next = 0;
      for (const auto& leases : AssignLeases(replicas, trainers)) {
        ASSERT_FALSE(leases.empty());
        for (int32_t v : leases) ASSERT_EQ(v, next++);
      }
      ASSERT_EQ(next, replicas);
    }
  }
}

TEST(Leases, ThoseOfWhoIsAwayGoToWhoeverHasTheFewest) {
  const All homes = AssignLeases(5, 4);  // the last has two
  EXPECT_EQ(ShareLeases(homes, {true, true, true, true}), homes);
  EXPECT_EQ(ShareLeases(homes, {true, false, true, true}), (All{{0, 1}, {}, {2}, {3, 4}}));
  EXPECT_EQ(ShareLeases(homes, {true, true, true, false}), (All{{0, 3}, {1, 4}, {2}, {}}));
  EXPECT_EQ(ShareLeases(homes, {false, false, true, false}), (All{{}, {}, {0, 1, 2, 3, 4}, {}}));
}

TEST(Leases, HoweverManyAreAwayEachReplicaHasOneTrainerAndTheyAreEven) {
  for (int trainers = 1; trainers <= 6; ++trainers) {
    for (int replicas = trainers; replicas <= trainers + 7; ++replicas) {
      const All homes = AssignLeases(replicas, trainers);
      for (int bits = 1; bits < 1 << trainers; ++bits) {
        std::vector<bool> there;
        for (int t = 0; t < trainers; ++t) there.push_back((bits >> t & 1) != 0);
        std::set<int32_t> seen;
        size_t least = replicas, most = 0;
        const All shared = ShareLeases(homes, there);
        for (int t = 0; t < trainers; ++t) {
          ASSERT_EQ(shared[t].empty(), !there[t]);
          ASSERT_TRUE(std::ranges::is_sorted(shared[t]));
          if (!there[t]) continue;
          ASSERT_TRUE(std::ranges::includes(shared[t], homes[t])) << "it keeps its own";
          for (const int32_t replica : shared[t]) ASSERT_TRUE(seen.insert(replica).second);
          least = std::min(least, shared[t].size());
          most = std::max(most, shared[t].size());
        }
        ASSERT_EQ(static_cast<int>(seen.size()), replicas);
        ASSERT_LE(most - least, 1u);
      }
    }
  }
}

}  // namespace
}  // namespace muster::master
