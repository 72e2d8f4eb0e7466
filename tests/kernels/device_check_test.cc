// The check that `launch doctor` prints: it passes what computes right, and names what does not.
#include "kernels/device_check.h"

#include <gtest/gtest.h>

#include "tests/harness/devices.h"

namespace muster {
namespace {

class DeviceCheckTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Devices, DeviceCheckTest, ::testing::ValuesIn(testing::DeviceNames()),
                         [](const auto& info) { return info.param; });

// Each op within what `precision` allows; the checks.
std::vector<OpCheck> ExpectAllOk(Device& device, GpuPrecision precision) {
  std::vector<OpCheck> checks = CheckDevice(device, ProductTolerance(precision));
  EXPECT_GE(checks.size(), 21u);
  for (const OpCheck& check : checks) {
    EXPECT_TRUE(check.ok()) << check.op << " differs by " << check.difference << " of "
                            << check.allowed << " " << check.status.message();
  }
  return checks;
}

TEST_P(DeviceCheckTest, EveryOpGivesWhatTheCpuGives) {
  const auto device = testing::MakeTestDevice(GetParam());
  if (!device.ok()) GTEST_SKIP() << device.status().message();
  ExpectAllOk(**device, GpuPrecision::kFloat32);
}

class DeviceCheckPrecisionTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Devices, DeviceCheckPrecisionTest,
                         ::testing::Values("bf16_host_gpu", "tf32_gpu", "bf16_gpu"),
                         [](const auto& info) { return info.param; });

// Within the tolerance, and not because nothing is rounded: a factor rounded by up to 2^-11 (TF32),
// or 2^-8, shows.
TEST_P(DeviceCheckPrecisionTest, ProductsAreRoundedAsFarAsIsAllowed) {
  const auto device = testing::MakeTestDevice(GetParam());
  if (!device.ok()) GTEST_SKIP() << device.status().message();
  const bool bf16 = GetParam().starts_with("bf16");
  const auto checks = ExpectAllOk(**device, bf16 ? GpuPrecision::kBf16 : GpuPrecision::kTf32);
  for (const OpCheck& check : checks) {
    if (check.op.find("matmul") == std::string::npos &&
        check.op.find("conv2d") == std::string::npos)
      continue;
    EXPECT_GT(check.difference, bf16 ? 0x1p-12 : 0x1p-15) << check.op;
  }
}

TEST(DeviceCheckTest, ADifferenceBeyondWhatIsAllowedIsNotOk) {
  OpCheck check{"matmul", 1e-3, 1e-5, absl::OkStatus()};
  EXPECT_FALSE(check.ok());
  check.difference = 1e-6;
  EXPECT_TRUE(check.ok());
  check.status = absl::InternalError("the device fell off the bus");
  EXPECT_FALSE(check.ok());
}

}  // namespace
}  // namespace muster
