// Which device a trainer gets, on a machine without a GPU.
#include "master/trainer_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/harness/host_gpu.h"

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

TrainerDevice Gpus(int count, GpuPrecision precision) {
  TrainerDevice made;
  made.devices = testing::MakeHostGpus(count).devices;
  made.precision = precision;
  return made;
}

// It changes nothing that a CPU computes.
TEST(TrainerDevice, APrecisionIsPartOfAGpusKindAlone) {
  EXPECT_EQ(Gpus(1, GpuPrecision::kTf32).kind(), "host, TF32");
  EXPECT_EQ(Gpus(1, GpuPrecision::kFloat32).kind(), "host, FP32");
  EXPECT_EQ(Gpus(4, GpuPrecision::kBf16).kind(), "4 x host, BF16");
  for (const Training::Device device : {Training::CPU, Training::AUTO}) {
    const auto in = [&](GpuPrecision precision) {
      return MakeTrainerDevice(device, {.precision = precision}, 2, {}, Nothing())->kind();
    };
    EXPECT_THAT(in(GpuPrecision::kTf32), HasSubstr("2 threads, "));
    EXPECT_EQ(in(GpuPrecision::kTf32), in(GpuPrecision::kBf16));
  }
}

}  // namespace
}  // namespace muster::master
