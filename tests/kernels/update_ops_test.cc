// The updates of weights through a device's table of ops give the CPU's bits on every device, at
// sizes that end amid a vector; and one value that is not finite is found wherever it stands.
#include <gtest/gtest.h>

#include <bit>
#include <functional>
#include <limits>
#include <random>

#include "kernels/device_ops.h"
#include "kernels/mirror.h"
#include "tests/harness/devices.h"
#include "tests/harness/fused_multiply_add.h"

namespace muster {
namespace {

struct Arrays {
  std::vector<float> grad, w, slots[3];
};

struct Update {
  const char* name;
  std::function<void(DeviceOps&, Stream&, const UpdateInput&, float* const* slots)> run;
};

const AdamFactors kAdam{0.9f, 1 - 0.9f, 0.99f, 1 - 0.99f, 0.1f, 1.5f, 1e-8f, 0.01f};
const RmspropFactors kRmsprop{0.9f, 1 - 0.9f, 0.5f, 1e-10f};
const FtrlFactors kFtrl{0.5f, 2, 0.01f, 0.02f};

const Update kUpdates[] = {
    {"sgd",
     [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const*) { ops.SgdUpdate(s, in); }},
    {"momentum", [](DeviceOps& ops, Stream& s, const UpdateInput& in,
                    float* const* slots) { ops.MomentumUpdate(s, in, 0.9f, slots[0]); }},
    {"nesterov", [](DeviceOps& ops, Stream& s, const UpdateInput& in,
                    float* const* slots) { ops.NesterovUpdate(s, in, 0.9f, slots[0]); }},
    {"adagrad", [](DeviceOps& ops, Stream& s, const UpdateInput& in,
                   float* const* slots) { ops.AdagradUpdate(s, in, 1e-7f, slots[0]); }},
    {"rmsprop",
     [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots) {
       ops.RmspropUpdate(s, in, kRmsprop, slots[0], nullptr, nullptr);
     }},
    {"rmsprop, centered, with momentum",
     [](DeviceOps& ops, Stream& s, const UpdateInput& in, float* const* slots) {
       ops.RmspropUpdate(s, in, kRmsprop, slots[0], slots[1], slots[2]);
     }},
    {"adam", [](DeviceOps& ops, Stream& s, const UpdateInput& in,
                float* const* slots) { ops.AdamUpdate(s, in, kAdam, slots[0], slots[1]); }},
    {"lamb", [](DeviceOps& ops, Stream& s, const UpdateInput& in,
                float* const* slots) { ops.LambDirection(s, in, kAdam, slots[0], slots[1]); }},
    {"ftrl", [](DeviceOps& ops, Stream& s, const UpdateInput& in,
                float* const* slots) { ops.FtrlUpdate(s, in, kFtrl, slots[0], slots[1]); }},
    {"ema", [](DeviceOps& ops, Stream& s, const UpdateInput& in,
               float* const*) { ops.EmaUpdate(s, in.grad, in.w, in.w_next, in.n, 0.5f, 0.1f); }},
};

// Twice, in place, so that the second step reads what the first one left.
absl::Status RunTwice(const Update& update, Stream& stream, Arrays& arrays) {
  const auto n = static_cast<int64_t>(arrays.w.size());
  Mirror on(stream);
  float* slots[3];
  for (int i = 0; i < 3; ++i) slots[i] = on.Out(arrays.slots[i], {n}).data();
  float* const w = on.Out(arrays.w, {n}).data();
  const UpdateInput in{.grad = on.In(arrays.grad, {n}).data(),
                       .w = w,
                       .w_next = w,
                       .n = n,
                       .scale = 0.5f,
                       .decay = 0.01f,
                       .learning_rate = 0.1f,
                       .clip = 0.7f};
  for (int step = 0; step < 2; ++step) update.run(stream.device().ops(), stream, in, slots);
  return on.Finish();
}

std::vector<uint32_t> Bits(const Arrays& arrays) {
  std::vector<uint32_t> bits;
  for (const auto* array : {&arrays.w, &arrays.slots[0], &arrays.slots[1], &arrays.slots[2]}) {
    for (const float x : *array) bits.push_back(std::bit_cast<uint32_t>(x));
  }
  return bits;
}

class UpdateOpsTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto made = testing::MakeTestDevice(GetParam());
    if (!made.ok()) GTEST_SKIP() << made.status().message();
    device_ = *std::move(made);
    stream_ = device_->MakeStream();
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

INSTANTIATE_TEST_SUITE_P(Devices, UpdateOpsTest, ::testing::ValuesIn(testing::DeviceNames()),
                         [](const auto& info) { return info.param; });

TEST_P(UpdateOpsTest, GiveTheCpusBits) {
  if (!testing::CpuFusesMultiplyAdd()) GTEST_SKIP() << "this CPU has no fused multiply-add";
  const auto cpu = MakeCpuDevice(1);
  for (const Update& update : kUpdates) {
    for (const size_t n : {1, 3, 4, 1003, 70'000}) {
      SCOPED_TRACE(std::string(update.name) + " of " + std::to_string(n));
      std::mt19937 random(static_cast<uint32_t>(n));
      std::uniform_real_distribution<float> uniform(-2, 2), positive(0, 2);
      Arrays want;
      for (auto* array : {&want.grad, &want.w}) {
        for (size_t i = 0; i < n; ++i) array->push_back(uniform(random));
      }
      for (auto& slot : want.slots) {
        for (size_t i = 0; i < n; ++i) slot.push_back(positive(random));
      }
      Arrays got = want;
      const auto before = Bits(want);
      ASSERT_TRUE(RunTwice(update, *cpu->MakeStream(), want).ok());
      const absl::Status run = RunTwice(update, *stream_, got);
      ASSERT_TRUE(run.ok()) << run;
      EXPECT_NE(Bits(want), before);
      ASSERT_TRUE(Bits(got) == Bits(want));
    }
  }
}

TEST_P(UpdateOpsTest, FindOneValueThatIsNotFiniteWhereverItStands) {
  constexpr float kMax = std::numeric_limits<float>::max();
  constexpr float kInf = std::numeric_limits<float>::infinity();
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
