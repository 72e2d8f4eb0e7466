#include "master/leases.h"

#include <gtest/gtest.h>

namespace muster::master {
namespace {

using Leases = std::vector<std::vector<int32_t>>;

TEST(Leases, OneReplicaEachWhenThereAreAsManyTrainers) {
  EXPECT_EQ(AssignLeases(3, 3), (Leases{{0}, {1}, {2}}));
}

TEST(Leases, ContiguousAndEvenOtherwise) {
  EXPECT_EQ(AssignLeases(5, 2), (Leases{{0, 1}, {2, 3, 4}}));
  EXPECT_EQ(AssignLeases(5, 1), (Leases{{0, 1, 2, 3, 4}}));
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

}  // namespace
}  // namespace muster::master
