// The sums and the moving average against a scalar float64 reference, at sizes around the vector
// length and at unaligned addresses. The optimizers' updates: tests/ps/optimizer_test.cc.
#include "kernels/optimizer_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <vector>

namespace muster {
namespace {

constexpr int64_t kSizes[] = {0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 1027};
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> Random(int64_t n, uint32_t seed, float low = -2, float high = 2) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> out(static_cast<size_t>(n));
  for (float& x : out) x = uniform(rng);
  return out;
}

TEST(SumTest, CopiesAndAddsExactlyAtEverySizeAndAddress) {
  for (const int64_t n : kSizes) {
    for (size_t shift = 0; shift < 4; ++shift) {
      const std::vector<float> a = Random(n, 1), b = Random(n, 2);
      const size_t bytes = a.size() * sizeof(float);
      std::vector<char> source(bytes + 4);
      const auto put = [&](const std::vector<float>& values) {
        if (!values.empty()) std::memcpy(source.data() + shift, values.data(), bytes);
      };
      put(a);
      std::vector<float> sum(a.size() + 1, 7.0f);
      EXPECT_TRUE(CopyInto(sum.data(), source.data() + shift, n));
      put(b);
      EXPECT_TRUE(AddInto(sum.data(), source.data() + shift, n));
      for (size_t i = 0; i < a.size(); ++i) ASSERT_EQ(sum[i], a[i] + b[i]) << n << " " << i;
      EXPECT_EQ(sum.back(), 7.0f) << "wrote beyond the end, n = " << n;
    }
  }
}

TEST(SumTest, NoticesEveryNonFiniteValueWhereverItLies) {
  for (const int64_t n : kSizes) {
    for (int64_t bad = 0; bad < n; ++bad) {
      for (const float value : {kInf, -kInf, kNan, -kNan}) {
        std::vector<float> source = Random(n, 3), dst(source.size(), 1.0f);
        source[static_cast<size_t>(bad)] = value;
        EXPECT_FALSE(CopyInto(dst.data(), source.data(), n));
        std::fill(dst.begin(), dst.end(), 1.0f);
        EXPECT_FALSE(AddInto(dst.data(), source.data(), n));
      }
    }
  }
}

TEST(SumTest, TheLargestFiniteValuePassesAndASumBeyondItDoesNot) {
  std::vector<float> dst(9, 0.0f);
  std::vector<float> source(9, std::numeric_limits<float>::max());
  EXPECT_TRUE(CopyInto(dst.data(), source.data(), 9));
  EXPECT_FALSE(AddInto(dst.data(), source.data(), 9));
}

TEST(SumTest, DenormalsAreKept) {
  const float tiny = std::numeric_limits<float>::denorm_min();
  std::vector<float> dst(11, tiny), source(11, tiny);
  EXPECT_TRUE(AddInto(dst.data(), source.data(), 11));
  for (const float x : dst) EXPECT_EQ(x, 2 * tiny);
}

// Each of the up to eight roundings of an element's update is relative to a term below 16.
constexpr double kTolerance = 8 * 16 * std::numeric_limits<float>::epsilon() / 2;

TEST(UpdateTest, EmaMovesByItsRateTowardsTheMean) {
  for (const int64_t n : kSizes) {
    const std::vector<float> sum = Random(n, 16), w = Random(n, 17);
    std::vector<float> next(w.size());
    EmaUpdate(sum.data(), w.data(), next.data(), n, 0.5f, 0.25f);
    for (size_t i = 0; i < w.size(); ++i) {
      ASSERT_NEAR(next[i], w[i] + 0.25 * (0.5 * double{sum[i]} - w[i]), kTolerance);
    }
  }
}

}  // namespace
}  // namespace muster
