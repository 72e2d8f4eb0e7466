// Which device a trainer gets, on a machine without a GPU.
#include "master/trainer_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::master {
namespace {

using ::testing::HasSubstr;

GpuSearch Nothing() {
  GpuSearch search;
  search.driver = "/nowhere/libcuda.so.1";
  return search;
}

TEST(TrainerDevice, TheCpuIsNotExplained) {
  const auto made = MakeTrainerDevice(Training::CPU, {}, 3, {}, Nothing());
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->devices[0]->threads(), 3);
  EXPECT_EQ(made->description, "/cpu:0: 3 threads");
  EXPECT_EQ(made->loader_threads, 1);
  EXPECT_EQ(made->warning, "");
}

TEST(TrainerDevice, AutoFallsBackAndSaysWhy) {
  const auto made = MakeTrainerDevice(Training::AUTO, {}, 1, {}, Nothing());
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->devices[0]->name(), "/cpu:0");
  EXPECT_EQ(made->description,
            "/cpu:0: 1 thread (no usable GPU: driver: /nowhere/libcuda.so.1 is not there)");
  EXPECT_THAT(made->warning, HasSubstr("training on the CPU: no usable GPU: driver: "));
}

TEST(TrainerDevice, AGpuThatIsNotThereIsAnError) {
  const auto made = MakeTrainerDevice(Training::GPU, {}, 1, {}, Nothing());
  EXPECT_EQ(made.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(made.status().message()), HasSubstr("install NVIDIA's driver"));
}

TEST(TrainerDevice, ComputesAsTheJobSays) {
  EXPECT_EQ(GpuOptionsOf(Training::FP32, true).precision, GpuPrecision::kFloat32);
  EXPECT_EQ(GpuOptionsOf(Training::TF32, true).precision, GpuPrecision::kTf32);
  EXPECT_EQ(GpuOptionsOf(Training::BF16, true).precision, GpuPrecision::kBf16);
  EXPECT_TRUE(GpuOptionsOf(Training::TF32, true).graphs);
  EXPECT_FALSE(GpuOptionsOf(Training::TF32, false).graphs);
}

}  // namespace
}  // namespace muster::master
