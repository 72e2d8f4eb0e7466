// AwsTest: jobs on machines of an EC2 that is moto's, with a machine behind each instance
// (tests/e2e/fake_aws.py), through the real `aws`.
//
// For one test binary's thread.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/aws_cloud.h"
#include "tests/e2e/cloud_fixture.h"

namespace muster::e2e {

inline AwsCloud& Cloud() { return TheCloud<AwsCloud>(); }
[[maybe_unused]] inline const auto* const cloud_end =
    ::testing::AddGlobalTestEnvironment(new CloudEnd<AwsCloud>);

class AwsTest : public CloudTest<AwsCloud> {
 protected:
  void TearDown() override {
    CloudTest::TearDown();
    if (!Cloud().problem().empty()) return;
    EXPECT_THAT(Cloud().Schedules(), ::testing::IsEmpty());
  }
};

}  // namespace muster::e2e
