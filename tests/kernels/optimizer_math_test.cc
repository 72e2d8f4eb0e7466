// The sums and updates against a scalar float64 reference, at sizes around the vector length, at
// unaligned addresses, and cut in two anywhere.
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

// One update of all arrays, and the same for one element in float64.
struct Case {
  const char* name;
  std::function<void(const UpdateInput&, float* slot0, float* slot1)> update;
  std::function<void(double g, double& w, double& slot0, double& slot1)> reference;
};

std::vector<Case> Cases() {
  const AdamFactors adam = {0.9f, 0.1f, 0.999f, 0.001f, 0.02f, 3.0f, 1e-7f};
  return {
      {"sgd", [](const UpdateInput& in, float*, float*) { SgdUpdate(in); },
       [](double g, double& w, double&, double&) { w -= double{0.125f} * g; }},
      {"momentum", [](const UpdateInput& in, float* m, float*) { MomentumUpdate(in, 0.9f, m); },
       [](double g, double& w, double& m, double&) {
         m = double{0.9f} * m + g;
         w -= double{0.125f} * m;
       }},
      {"adagrad", [](const UpdateInput& in, float* a, float*) { AdagradUpdate(in, 1e-7f, a); },
       [](double g, double& w, double& a, double&) {
         a += g * g;
         w -= double{0.125f} * g / (std::sqrt(a) + double{1e-7f});
       }},
      {"adam", [adam](const UpdateInput& in, float* m, float* v) { AdamUpdate(in, adam, m, v); },
       [adam](double g, double& w, double& m, double& v) {
         m = adam.beta1 * m + adam.one_minus_beta1 * g;
         v = adam.beta2 * v + adam.one_minus_beta2 * g * g;
         w -= adam.step_size * m / (std::sqrt(v) * adam.v_unbias + double{adam.epsilon});
       }},
  };
}

// Each of the up to eight roundings of an element's update is relative to a term below 16.
constexpr double kTolerance = 8 * 16 * std::numeric_limits<float>::epsilon() / 2;

TEST(UpdateTest, AgreesWithFloat64AtEverySize) {
  for (const Case& c : Cases()) {
    for (const int64_t n : kSizes) {
      const std::vector<float> grad = Random(n, 4), w = Random(n, 5);
      std::vector<float> slot0 = Random(n, 6, 0.1f, 2), slot1 = Random(n, 7, 0.1f, 2);
      const std::vector<float> before0 = slot0, before1 = slot1;
      std::vector<float> next(w.size() + 1, 7.0f);
      c.update({grad.data(), w.data(), next.data(), n, 0.25f, 0.01f, 0.125f}, slot0.data(),
               slot1.data());
      for (size_t i = 0; i < w.size(); ++i) {
        double rw = w[i], r0 = before0[i], r1 = before1[i];
        c.reference(0.25 * double{grad[i]} + double{0.01f} * rw, rw, r0, r1);
        ASSERT_NEAR(next[i], rw, kTolerance) << c.name << " n " << n << " i " << i;
        ASSERT_NEAR(slot0[i], r0, kTolerance) << c.name;
        ASSERT_NEAR(slot1[i], r1, kTolerance) << c.name;
      }
      EXPECT_EQ(next.back(), 7.0f) << c.name << " wrote beyond the end, n = " << n;
    }
  }
}

TEST(UpdateTest, CuttingTheArraysAnywhereGivesTheSameBits) {
  constexpr int64_t kN = 67;
  for (const Case& c : Cases()) {
    const std::vector<float> grad = Random(kN, 8), w = Random(kN, 9);
    const std::vector<float> start0 = Random(kN, 10, 0.1f, 2), start1 = Random(kN, 11, 0.1f, 2);
    std::vector<float> whole(w.size()), whole0 = start0, whole1 = start1;
    c.update({grad.data(), w.data(), whole.data(), kN, 0.3f, 0.01f, 0.1f}, whole0.data(),
             whole1.data());
    for (int64_t cut = 0; cut <= kN; ++cut) {
      std::vector<float> parts(w.size()), parts0 = start0, parts1 = start1;
      c.update({grad.data(), w.data(), parts.data(), cut, 0.3f, 0.01f, 0.1f}, parts0.data(),
               parts1.data());
      c.update({grad.data() + cut, w.data() + cut, parts.data() + cut, kN - cut, 0.3f, 0.01f, 0.1f},
               parts0.data() + cut, parts1.data() + cut);
      ASSERT_EQ(parts, whole) << c.name << " cut at " << cut;
      ASSERT_EQ(parts0, whole0) << c.name << " cut at " << cut;
      ASSERT_EQ(parts1, whole1) << c.name << " cut at " << cut;
    }
  }
}

TEST(UpdateTest, InPlaceGivesTheSameBits) {
  constexpr int64_t kN = 37;
  for (const Case& c : Cases()) {
    const std::vector<float> grad = Random(kN, 12);
    std::vector<float> w = Random(kN, 13), next(w.size());
    std::vector<float> a0 = Random(kN, 14, 0.1f, 2), a1 = Random(kN, 15, 0.1f, 2), b0 = a0, b1 = a1;
    c.update({grad.data(), w.data(), next.data(), kN, 0.3f, 0, 0.1f}, a0.data(), a1.data());
    c.update({grad.data(), w.data(), w.data(), kN, 0.3f, 0, 0.1f}, b0.data(), b1.data());
    EXPECT_EQ(w, next) << c.name;
  }
}

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
