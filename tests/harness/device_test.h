// DeviceTest: a test that runs on a device (devices.h), named by its parameter; one that is not
// there is skipped, and says why.
//
// Of one test's thread.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "kernels/mirror.h"
#include "tests/harness/devices.h"

namespace muster::testing {

class DeviceTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto device = MakeTestDevice(GetParam());
    if (!device.ok()) GTEST_SKIP() << device.status().message();
    device_ = *std::move(device);
    stream_ = device_->MakeStream();
  }
  // Fails the test when the device did.
  static void Finish(Mirror& on) {
    const absl::Status status = on.Finish();
    ASSERT_TRUE(status.ok()) << status.message();
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace muster::testing
