// The updates of weights through a device's table of ops give the CPU's bits on every device, at
// random sizes, rates and values, and write nothing beyond the end; and one value that is not
// finite is found wherever it stands.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>

#include "kernels/device_ops.h"
#include "kernels/mirror.h"
#include "tests/harness/device_test.h"
#include "tests/harness/fused_multiply_add.h"

namespace muster {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kBeyond = 77;  // what stands behind the arrays
constexpr int kSlots = 3;

// The arrays of an update: gradient, weights, next weights and slots, with kBeyond after each.
struct Arrays {
  Arrays(int64_t n, std::mt19937& random) {
    std::uniform_real_distribution<float> uniform(-2, 2);
    const auto fill = [&](std::vector<float>& array, bool positive) {
      for (int64_t i = 0; i < n; ++i) {
        const float x = positive ? std::fabs(uniform(random)) : uniform(random);
        const uint32_t kind = random() % 16;
        array.push_back(kind == 0 ? 0.0f : kind == 1 ? x * 1e-40f : x);
      }
      array.insert(array.end(), 4, kBeyond);
    };
    for (auto* array : {&grad, &w, &next}) fill(*array, false);
    for (auto& slot : slots) fill(slot, true);  // some of them are sums of squares
  }
  std::vector<const std::vector<float>*> all() const {
    return {&grad, &w, &next, &slots[0], &slots[1], &slots[2]};
  }

  std::vector<float> grad, w, next, slots[kSlots];
};

// What an update is told besides its arrays.
struct Settings {
  Settings(int64_t size, std::mt19937& random) : n(size) {
    const auto draw = [&](float low, float high) {
      return std::uniform_real_distribution<float>(low, high)(random);
    };
    in_place = random() % 2 == 0;
    scale = draw(0.1f, 1);
    decay = random() % 2 == 0 ? 0 : draw(0, 0.1f);
    learning_rate = draw(0.001f, 1);
    clip = random() % 2 == 0 ? kInf : draw(0.1f, 2);
    factor = draw(0.01f, 1);
  }

  int64_t n;
  bool in_place;
  float scale, decay, learning_rate, clip;
  float factor;  // the optimizer's own
};

struct Update {
  const char* name;
  std::function<void(DeviceOps&, Stream&, const UpdateInput&, float* const* slots, float factor)>
      run;
  float tolerance = 0;
};

AdamFactors Adam(float factor) {
  return {0.9f, 1 - 0.9f, 0.999f, 1 - 0.999f, factor, 1.25f, 1e-8f, 0.1f * factor};
}
RmspropFactors Rmsprop(float factor) { return {0.9f, 1 - 0.9f, factor, 1e-10f}; }

const Update kUpdates[] = {
    {"sgd", [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const*,
               float) { ops.SgdUpdate(s, in); }},
    {"momentum", [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots,
                    float mu) { ops.MomentumUpdate(s, in, mu, slots[0]); }},
    {"nesterov", [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots,
                    float mu) { ops.NesterovUpdate(s, in, mu, slots[0]); }},
    {"adagrad", [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots,
                   float) { ops.AdagradUpdate(s, in, 1e-7f, slots[0]); }},
    {"rmsprop",
     [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots, float factor) {
       ops.RmspropUpdate(s, in, Rmsprop(factor), slots[0], nullptr, nullptr);
     }},
    {"rmsprop with momentum",
     [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots, float factor) {
       ops.RmspropUpdate(s, in, Rmsprop(factor), slots[0], slots[1], nullptr);
     }},
    {"rmsprop, centered",
     [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots, float factor) {
       ops.RmspropUpdate(s, in, Rmsprop(factor), slots[0], nullptr, slots[2]);
     }},
    {"rmsprop, centered, with momentum",
     [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots, float factor) {
       ops.RmspropUpdate(s, in, Rmsprop(factor), slots[0], slots[1], slots[2]);
     }},
    {"adam", [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots,
                float factor) { ops.AdamUpdate(s, in, Adam(factor), slots[0], slots[1]); }},
    {"lamb", [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots,
                float factor) { ops.LambDirection(s, in, Adam(factor), slots[0], slots[1]); }},
    {"ftrl",
     [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots, float factor) {
       ops.FtrlUpdate(s, in, {0.5f, 1 / in.learning_rate, factor, 0.5f}, slots[0], slots[1]);
     }},
    // The powers, at most 4, may differ by an ulp, the inverse rate is 1, |w| at most 2, and what
    // w' is divided by at least 1.
    {"ftrl, another power",
     [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots, float factor) {
       ops.FtrlUpdate(s, in, {0.7f * factor, 1, 0, 1}, slots[0], slots[1]);
     },
     3 * 4 * 2 * std::numeric_limits<float>::epsilon()},
    {"ema", [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const*,
               float rate) { ops.EmaUpdate(s, in.grad, in.w, in.w_next, in.n, in.scale, rate); }},
};

absl::Status RunUpdate(const Update& update, const Settings& settings, Stream& stream,
                       Arrays& arrays) {
  const int64_t size = settings.n + 4;
  Mirror on(stream);
  float* slots[kSlots];
  for (int i = 0; i < kSlots; ++i) slots[i] = on.Out(arrays.slots[i], {size}).data();
  float* const w = on.Out(arrays.w, {size}).data();
  float* const next = on.Out(arrays.next, {size}).data();
  const UpdateInput in{.grad = on.Out(arrays.grad, {size}).data(),
                       .w = w,
                       .w_next = settings.in_place ? w : next,
                       .n = settings.n,
                       .scale = settings.scale,
                       .decay = settings.decay,
                       .learning_rate = settings.learning_rate,
                       .clip = settings.clip};
  // The second step reads what the first one left.
  for (int step = 0; step < (update.tolerance > 0 ? 1 : 2); ++step) {
    update.run(stream.device().ops(), stream, in, slots, settings.factor);
  }
  return on.Finish();
}

void ExpectSame(const std::vector<float>& got, const std::vector<float>& want, float tolerance) {
  for (size_t i = 0; i < want.size(); ++i) {
    if (tolerance > 0) {
      ASSERT_NEAR(got[i], want[i], tolerance) << i;
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i]))
          << i << ": " << got[i] << ", not " << want[i];
    }
  }
}

using UpdateOpsTest = testing::DeviceTest;

INSTANTIATE_TEST_SUITE_P(Devices, UpdateOpsTest, ::testing::ValuesIn(testing::DeviceNames()),
                         [](const auto& info) { return info.param; });

TEST_P(UpdateOpsTest, GiveTheCpusBits) {
  if (!testing::CpuFusesMultiplyAdd()) GTEST_SKIP() << "this CPU has no fused multiply-add";
  const auto cpu = MakeCpuDevice(1);
  for (const Update& update : kUpdates) {
    for (uint32_t seed = 1; seed <= 60; ++seed) {
      SCOPED_TRACE(std::string(update.name) + ", seed " + std::to_string(seed));
      std::mt19937 random(seed);
      const int64_t n = seed <= 9    ? seed - 1
                        : seed == 10 ? 70'000
                                     : static_cast<int64_t>(random() % 1000);
      const Settings settings(n, random);
      Arrays want(n, random), got = want;
      const Arrays before = want;
      ASSERT_TRUE(RunUpdate(update, settings, *cpu->MakeStream(), want).ok());
      const absl::Status run = RunUpdate(update, settings, *stream_, got);
      ASSERT_TRUE(run.ok()) << run;
      const auto& updated = settings.in_place ? want.w : want.next;
      EXPECT_EQ(updated == (settings.in_place ? before.w : before.next), n == 0);
      for (size_t a = 0; a < want.all().size(); ++a) {
        SCOPED_TRACE("array " + std::to_string(a));
        ExpectSame(*got.all()[a], *want.all()[a], update.tolerance);
        ASSERT_EQ(std::vector<float>(got.all()[a]->end() - 4, got.all()[a]->end()),
                  std::vector<float>(4, kBeyond));
      }
      if (HasFatalFailure()) return;
    }
  }
}

// The direction may go where the gradient was.
TEST_P(UpdateOpsTest, LambMayOverwriteTheGradient) {
  std::mt19937 random(7);
  constexpr int64_t kN = 103;
  const Settings settings(kN, random);
  Arrays apart(kN, random), over = apart;
  for (Arrays* arrays : {&apart, &over}) {
    Mirror on(*stream_);
    float* const grad = on.Out(arrays->grad, {kN + 4}).data();
    const UpdateInput in{.grad = grad,
                         .w = on.In(arrays->w, {kN + 4}).data(),
                         .w_next = arrays == &over ? grad : on.Out(arrays->next, {kN + 4}).data(),
                         .n = kN,
                         .scale = settings.scale,
                         .clip = kInf};
    device_->ops().LambDirection(*stream_, in, Adam(0.5f),
                                 on.Out(arrays->slots[0], {kN + 4}).data(),
                                 on.Out(arrays->slots[1], {kN + 4}).data());
    ASSERT_TRUE(on.Finish().ok());
  }
  ExpectSame(over.grad, apart.next, 0);
}

TEST_P(UpdateOpsTest, FindOneValueThatIsNotFiniteWhereverItStands) {
  constexpr float kMax = std::numeric_limits<float>::max();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const size_t n : {1, 6, 5000}) {
    for (const float value : {kMax, -kMax, 1e-45f, kInf, -kInf, kNan, -kNan}) {
      for (const size_t at : {size_t{0}, n / 2, n - 1}) {
        std::vector<float> x(n, 1.0f);
        x[at] = value;
        std::vector<int32_t> found = {0, 7};
        Mirror on(*stream_);
        int32_t* const flags = on.Out(found, {2}).data<int32_t>();
        for (int i = 0; i < 2; ++i) {
          device_->ops().FindNonFinite(*stream_, static_cast<int64_t>(n),
                                       on.In(x, {static_cast<int64_t>(n)}).data(), flags + i);
        }
        ASSERT_TRUE(on.Finish().ok());
        const bool finite = std::abs(value) <= kMax;
        EXPECT_EQ(found, finite ? std::vector<int32_t>({0, 7}) : std::vector<int32_t>({1, 1}))
            << value << " at " << at << " of " << n;
      }
    }
  }
}

}  // namespace
}  // namespace muster
