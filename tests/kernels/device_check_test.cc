// The check that `launch doctor` prints: it passes what computes right, and names what does not.
#include "kernels/device_check.h"

#include <gtest/gtest.h>

#include "tests/harness/devices.h"

namespace muster {
namespace {

class DeviceCheckTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Devices, DeviceCheckTest, ::testing::ValuesIn(testing::DeviceNames()),
                         [](const auto& info) { return info.param; });

TEST_P(DeviceCheckTest, EveryOpGivesWhatTheCpuGives) {
  const auto device = testing::MakeTestDevice(GetParam());
  if (!device.ok()) GTEST_SKIP() << device.status().message();
  const std::vector<OpCheck> checks = CheckDevice(**device, 1e-5);
  EXPECT_GE(checks.size(), 12u);
  for (const OpCheck& check : checks) {
    EXPECT_TRUE(check.ok()) << check.op << " differs by " << check.difference << " of "
                            << check.allowed << " " << check.status.message();
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
