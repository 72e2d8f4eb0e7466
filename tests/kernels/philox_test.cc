#include "kernels/philox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace muster {
namespace {

using ::testing::ElementsAre;

// The known answers that the authors publish with Random123 (kat_vectors: philox4x32 10).
TEST(PhiloxTest, GivesThePublishedKnownAnswers) {
  EXPECT_THAT(Philox({0, 0}, PhiloxCounter{0, 0, 0, 0}),
              ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_THAT(Philox({kOnes, kOnes}, PhiloxCounter{kOnes, kOnes, kOnes, kOnes}),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(Philox({0xa4093822, 0x299f31d0},
                     PhiloxCounter{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(PhiloxTest, SixtyFourBitIndexFillsTheLowWordsOfTheCounter) {
  EXPECT_EQ(Philox({1, 2}, 0x0000000400000003, 0x0000000600000005),
            Philox({1, 2}, PhiloxCounter{3, 4, 5, 6}));
}

TEST(PhiloxTest, DerivedKeysDifferInSeedAndPurpose) {
  std::set<std::pair<uint32_t, uint32_t>> keys;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    for (uint64_t a = 0; a < 10; ++a) {
      for (uint64_t b = 0; b < 10; ++b) {
        const PhiloxKey key = DeriveKey(seed, a, b);
        keys.insert({key.k0, key.k1});
      }
    }
  }
  EXPECT_EQ(keys.size(), 1000u);
}

TEST(PhiloxTest, UniformFloatCoversZeroToBelowOne) {
  EXPECT_EQ(UniformFloat(0), 0.0f);
  EXPECT_LT(UniformFloat(0xffffffff), 1.0f);
  EXPECT_EQ(UniformFloat(0x80000000), 0.5f);
}

// Bounds are six deviations of the sample mean and variance of 1e5 draws; a standard normal cut at
// 2 has variance 0.7737.
TEST(PhiloxTest, TruncatedNormalHasItsMomentsAndItsCut) {
  constexpr int kDraws = 100000;
  const PhiloxKey key = DeriveKey(7, HashName("moments"));
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const float x = TruncatedNormal(key, i);
    ASSERT_LE(std::abs(x), 2.0f);
    sum += x;
    squares += double{x} * x;
  }
  EXPECT_NEAR(sum / kDraws, 0, 6 * 0.88 / std::sqrt(kDraws));
  EXPECT_NEAR(squares / kDraws, 0.7737, 6 * 0.9 / std::sqrt(kDraws));
}

TEST(PhiloxTest, TruncatedNormalIsAFunctionOfKeyAndIndex) {
  const PhiloxKey key = DeriveKey(1, 2);
  EXPECT_EQ(TruncatedNormal(key, 5), TruncatedNormal(key, 5));
  EXPECT_NE(TruncatedNormal(key, 5), TruncatedNormal(key, 6));
  EXPECT_NE(TruncatedNormal(key, 5), TruncatedNormal(DeriveKey(1, 3), 5));
}

TEST(PhiloxTest, UniformIntStaysBelowNAndReachesAll) {
  std::vector<int> count(10);
  for (int i = 0; i < 10000; ++i) ++count.at(UniformInt(DeriveKey(3, 0), i, 0, 10));
  for (const int c : count) EXPECT_NEAR(c, 1000, 6 * 30);  // six deviations of a binomial
}

TEST(PermuteTest, IsABijectionForEverySmallSize) {
  for (int64_t n = 1; n <= 300; ++n) {
    std::set<int64_t> seen;
    for (int64_t i = 0; i < n; ++i) {
      const int64_t to = Permute(n, {1, static_cast<uint32_t>(n)}, i);
      ASSERT_GE(to, 0);
      ASSERT_LT(to, n);
      seen.insert(to);
    }
    ASSERT_EQ(seen.size(), static_cast<size_t>(n)) << "n = " << n;
  }
}

TEST(PermuteTest, DifferentKeysShuffleDifferently) {
  int fixed = 0, equal = 0;
  for (int64_t i = 0; i < 1000; ++i) {
    fixed += Permute(1000, {1, 1}, i) == i;
    equal += Permute(1000, {1, 1}, i) == Permute(1000, {2, 1}, i);
  }
  EXPECT_LT(fixed, 10);  // about one each is expected
  EXPECT_LT(equal, 10);
}

TEST(PermuteTest, ReachesBeyondThirtyTwoBits) {
  const int64_t n = int64_t{1} << 40;
  EXPECT_NE(Permute(n, {1, 1}, 0), Permute(n, {1, 1}, n - 1));
  EXPECT_LT(Permute(n, {1, 1}, n - 1), n);
}

}  // namespace
}  // namespace muster
