// The kernels of the optimizers' updates and of the sums against the CPU's functions: the same bits
// at random sizes, rates and values, and nothing written beyond the end.
#include "kernels/cuda/optimizer_kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "kernels/cuda/sum_kernels.h"
#include "tests/harness/fused_multiply_add.h"
#include "tests/kernels/any_order.h"

namespace muster::gpu {
namespace {

using muster::testing::RunInAnyOrder;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kBeyond = 77;  // what stands behind the arrays

// The arrays of an update: gradient, weight, next weight and slots, with kBeyond after each.
struct Arrays {
  std::vector<float> grad, w, next, slot[kMaxSlots];

  Arrays(int64_t n, std::mt19937& rng) {
    std::uniform_real_distribution<float> uniform(-2, 2);
    const auto fill = [&](std::vector<float>& array, bool positive) {
      for (int64_t i = 0; i < n; ++i) {
        const float x = positive ? std::fabs(uniform(rng)) : uniform(rng);
        const uint32_t kind = rng() % 16;
        array.push_back(kind == 0 ? 0.0f : kind == 1 ? x * 1e-40f : x);
      }
      array.insert(array.end(), 4, kBeyond);
    };
    fill(grad, false);
    fill(w, false);
    fill(next, false);
    for (auto& array : slot) fill(array, true);  // some of them are sums of squares
  }
  UpdateInput Input(int64_t n, std::mt19937& rng) {
    const auto draw = [&](float low, float high) {
      return std::uniform_real_distribution<float>(low, high)(rng);
    };
    return {.grad = grad.data(),
            .w = w.data(),
            .w_next = rng() % 2 == 0 ? w.data() : next.data(),
            .n = n,
            .scale = draw(0.1f, 1),
            .decay = rng() % 2 == 0 ? 0 : draw(0, 0.1f),
            .learning_rate = draw(0.001f, 1),
            .clip = rng() % 2 == 0 ? kInf : draw(0.1f, 2)};
  }
};

// Runs an update by kernels, or by the CPU's functions. `random` is the same for both.
struct Update {
  const char* name;
  std::function<void(const UpdateInput&, float* const* slots, float random)> cpu;
  std::function<void(const RunInAnyOrder&, const UpdateInput&, float* const* slots, float random)>
      gpu;
  float tolerance = 0;
};

AdamFactors Adam(float random) {
  return {0.9f, 1 - 0.9f, 0.999f, 1 - 0.999f, random, 1.25f, 1e-8f, 0.1f * random};
}
RmspropFactors Rmsprop(float random) { return {0.9f, 1 - 0.9f, random, 1e-10f}; }

const Update kUpdates[] = {
    {"sgd", [](const UpdateInput& in, float* const*, float) { SgdUpdate(in); },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const*, float) {
       run(CeilDiv(in.n, 4), SgdKernel(in));
     }},
    {"momentum",
     [](const UpdateInput& in, float* const* s, float mu) { MomentumUpdate(in, mu, s[0]); },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const* s, float mu) {
       run(CeilDiv(in.n, 4), MomentumKernel(in, mu, s[0]));
     }},
    {"nesterov",
     [](const UpdateInput& in, float* const* s, float mu) { NesterovUpdate(in, mu, s[0]); },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const* s, float mu) {
       run(CeilDiv(in.n, 4), NesterovKernel(in, mu, s[0]));
     }},
    {"adagrad",
     [](const UpdateInput& in, float* const* s, float) { AdagradUpdate(in, 1e-7f, s[0]); },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const* s, float) {
       run(CeilDiv(in.n, 4), AdagradKernel(in, 1e-7f, s[0]));
     }},
    {"rmsprop",
     [](const UpdateInput& in, float* const* s, float mu) {
       RmspropUpdate(in, Rmsprop(mu), s[0], nullptr, nullptr);
     },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const* s, float mu) {
       run(CeilDiv(in.n, 4), RmspropKernel(in, Rmsprop(mu), s[0], nullptr, nullptr));
     }},
    {"rmsprop with momentum",
     [](const UpdateInput& in, float* const* s, float mu) {
       RmspropUpdate(in, Rmsprop(mu), s[0], s[1], nullptr);
     },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const* s, float mu) {
       run(CeilDiv(in.n, 4), RmspropKernel(in, Rmsprop(mu), s[0], s[1], nullptr));
     }},
    {"rmsprop, centered",
     [](const UpdateInput& in, float* const* s, float mu) {
       RmspropUpdate(in, Rmsprop(mu), s[0], nullptr, s[2]);
     },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const* s, float mu) {
       run(CeilDiv(in.n, 4), RmspropKernel(in, Rmsprop(mu), s[0], nullptr, s[2]));
     }},
    {"rmsprop, centered, with momentum",
     [](const UpdateInput& in, float* const* s, float mu) {
       RmspropUpdate(in, Rmsprop(mu), s[0], s[1], s[2]);
     },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const* s, float mu) {
       run(CeilDiv(in.n, 4), RmspropKernel(in, Rmsprop(mu), s[0], s[1], s[2]));
     }},
    {"adam",
     [](const UpdateInput& in, float* const* s, float r) { AdamUpdate(in, Adam(r), s[0], s[1]); },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const* s, float r) {
       run(CeilDiv(in.n, 4), AdamKernel(in, Adam(r), s[0], s[1]));
     }},
    {"lamb",
     [](const UpdateInput& in, float* const* s, float r) {
       LambDirection(in, Adam(r), s[0], s[1]);
     },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const* s, float r) {
       run(CeilDiv(in.n, 4), LambDirectionKernel(in, Adam(r), s[0], s[1]));
     }},
    {"ftrl",
     [](const UpdateInput& in, float* const* s, float r) {
       FtrlUpdate(in, {0.5f, 1 / in.learning_rate, r, 0.5f}, s[0], s[1]);
     },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const* s, float r) {
       run(CeilDiv(in.n, 4), FtrlKernel(in, {0.5f, 1 / in.learning_rate, r, 0.5f}, s[0], s[1]));
     }},
    // The powers, at most 4, may differ by an ulp, the inverse rate is 1, |w| at most 2, and what
    // w' is divided by at least 1.
    {"ftrl, another power",
     [](const UpdateInput& in, float* const* s, float r) {
       FtrlUpdate(in, {0.7f * r, 1, 0, 1}, s[0], s[1]);
     },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const* s, float r) {
       run(CeilDiv(in.n, 4), FtrlKernel(in, {0.7f * r, 1, 0, 1}, s[0], s[1]));
     },
     3 * 4 * 2 * std::numeric_limits<float>::epsilon()},
    {"ema",
     [](const UpdateInput& in, float* const*, float r) {
       EmaUpdate(in.grad, in.w, in.w_next, in.n, in.scale, r);
     },
     [](const RunInAnyOrder& run, const UpdateInput& in, float* const*, float r) {
       run(CeilDiv(in.n, 4), EmaKernel(in.grad, in.w, in.w_next, in.n, in.scale, r));
     }},
};

void ExpectSame(const std::vector<float>& got, const std::vector<float>& expected, float tolerance,
                const char* array) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (tolerance > 0) {
      ASSERT_NEAR(got[i], expected[i], tolerance) << array << "[" << i << "]";
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i]))
          << array << "[" << i << "] is " << got[i] << ", not " << expected[i];
    }
  }
}

TEST(UpdateKernelTest, GivesTheCpusBits) {
  if (!testing::CpuFusesMultiplyAdd()) GTEST_SKIP() << "this CPU has no fused multiply-add";
  for (const Update& update : kUpdates) {
    for (uint32_t seed = 1; seed <= 60; ++seed) {
      SCOPED_TRACE(std::string(update.name) + ", seed " + std::to_string(seed));
      std::mt19937 rng(seed);
      const int64_t n = seed <= 9 ? seed - 1 : static_cast<int64_t>(rng() % 1000);
      Arrays expected(n, rng), got = expected;
      const std::mt19937 fork = rng;
      const auto run = [&](Arrays& arrays, const auto& by) {
        rng = fork;
        const UpdateInput in = arrays.Input(n, rng);
        float* const slots[] = {arrays.slot[0].data(), arrays.slot[1].data(),
                                arrays.slot[2].data()};
        by(in, slots, std::uniform_real_distribution<float>(0.01f, 1)(rng));
      };
      run(expected, update.cpu);
      run(got, [&](const UpdateInput& in, float* const* slots, float random) {
        update.gpu(RunInAnyOrder(seed), in, slots, random);
      });
      ExpectSame(got.w, expected.w, update.tolerance, "w");
      ExpectSame(got.next, expected.next, update.tolerance, "next");
      for (const auto& slot : got.slot) {
        ExpectSame(slot, expected.slot[&slot - got.slot], update.tolerance, "slot");
      }
      if (HasFatalFailure()) return;
    }
  }
}

// The direction may go where the gradient was.
TEST(UpdateKernelTest, LambMayOverwriteTheGradient) {
  std::mt19937 rng(7);
  const int64_t n = 103;
  Arrays arrays(n, rng), in_place = arrays;
  UpdateInput in = arrays.Input(n, rng), over = in;
  in.w_next = arrays.next.data();
  over.grad = over.w_next = in_place.grad.data();
  over.w = in_place.w.data();
  const RunInAnyOrder run(7);
  run(CeilDiv(n, 4),
      LambDirectionKernel(in, Adam(0.5f), arrays.slot[0].data(), arrays.slot[1].data()));
  run(CeilDiv(n, 4),
      LambDirectionKernel(over, Adam(0.5f), in_place.slot[0].data(), in_place.slot[1].data()));
  arrays.next.resize(static_cast<size_t>(n));
  in_place.grad.resize(static_cast<size_t>(n));
  ExpectSame(in_place.grad, arrays.next, 0, "direction");
}

// Runs both devices on the same arrays; returns whether both call the result finite.
template <bool kAdd>
bool CombineOnBoth(const std::vector<float>& src, const std::vector<float>& before, uint32_t seed) {
  const auto n = static_cast<int64_t>(src.size());
  std::vector<float> expected = before, got = before;
  const bool finite =
      kAdd ? AddInto(expected.data(), src.data(), n) : CopyInto(expected.data(), src.data(), n);
  std::vector<uint8_t> workspace(static_cast<size_t>(CombineWorkspace(n)) + 1, 0x5a);
  const uint8_t* flag =
      Combine<kAdd>(RunInAnyOrder(seed), n, src.data(), got.data(), workspace.data());
  EXPECT_LT(flag, &workspace.back());
  EXPECT_EQ(workspace.back(), 0x5a) << "wrote beyond the workspace";
  EXPECT_EQ(*flag, finite ? 0 : 1) << "n = " << n << ", seed " << seed;
  for (size_t i = 0; i < src.size(); ++i) {
    if (std::isnan(expected[i])) continue;  // whose bits are the device's
    EXPECT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(expected[i])) << i;
  }
  return finite;
}

TEST(CombineTest, CopiesAddsAndNoticesWhatIsNotFiniteLikeTheCpu) {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 rng(seed);
    const int64_t n = seed <= 40 ? seed : static_cast<int64_t>(1 + rng() % 10000);
    std::uniform_real_distribution<float> uniform(-2, 2);
    std::vector<float> src(static_cast<size_t>(n)), before(src.size());
    for (float& x : src) x = uniform(rng);
    for (float& x : before) x = uniform(rng);
    EXPECT_TRUE(CombineOnBoth<false>(src, before, seed));
    EXPECT_TRUE(CombineOnBoth<true>(src, before, seed));
    const float bad[] = {kInf, -kInf, kNan, -kNan};
    src[rng() % src.size()] = bad[rng() % 4];
    EXPECT_FALSE(CombineOnBoth<false>(src, before, seed));
    EXPECT_FALSE(CombineOnBoth<true>(src, before, seed));
  }
}

TEST(CombineTest, NoticesASumBeyondFloatAndKeepsSubnormals) {
  const float max = std::numeric_limits<float>::max(), tiny = 1e-45f;
  EXPECT_TRUE(CombineOnBoth<false>({max, tiny, max}, {0, 0, 0}, 1));
  EXPECT_TRUE(CombineOnBoth<true>({max, tiny, max}, {0, tiny, -max}, 1));
  EXPECT_FALSE(CombineOnBoth<true>({max, tiny, max}, {0, tiny, max}, 1));
}

TEST(CombineTest, ThreePassesOverTheFlagsFindOneAmongAMillion) {
  constexpr size_t kN = 16 * kFlagsPerAny * kFlagsPerAny + 17;
  std::vector<float> src(kN, 1.0f);
  const std::vector<float> before(kN, 2.0f);
  EXPECT_TRUE(CombineOnBoth<true>(src, before, 3));
  for (const size_t bad : {size_t{0}, kN / 2 + 1, kN - 1}) {
    src[bad] = kNan;
    EXPECT_FALSE(CombineOnBoth<true>(src, before, 3)) << bad;
    src[bad] = 1;
  }
}

}  // namespace
}  // namespace muster::gpu
