// Communicators: the one that tests play on the host, and NCCL on this machine's GPUs.
#include "kernels/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/communicator_check.h"
#include "tests/harness/devices.h"
#include "tests/harness/host_gpu.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

void ExpectRight(std::span<const std::unique_ptr<Device>> devices, Communicator& communicator) {
  for (const OpCheck& check : CheckCommunicator(devices, communicator)) {
    EXPECT_TRUE(check.ok()) << check.op << " differs by " << check.difference << " "
                            << check.status.message();
  }
}

TEST(CommunicatorTest, SumsAndGathersOnTheHost) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    for (const auto pace : {testing::HostGpuPace::kAtOnce, testing::HostGpuPace::kLate}) {
      SCOPED_TRACE(ranks);
      const testing::HostGpus gpus = testing::MakeHostGpus(ranks, pace);
      ExpectRight(gpus.devices, *gpus.communicator);
    }
  }
}

TEST(CommunicatorTest, ThatWasToldToGiveUpSaysSo) {
  const testing::HostGpus gpus = testing::MakeHostGpus(2);
  EXPECT_TRUE(gpus.communicator->status().ok());
  gpus.communicator->Abort();
  EXPECT_FALSE(gpus.communicator->status().ok());
  for (const OpCheck& check : CheckCommunicator(gpus.devices, *gpus.communicator)) {
    EXPECT_FALSE(check.ok()) << check.op;
  }
}

// All GPUs of this machine, and each number of them that is smaller.
TEST(CommunicatorTest, NcclOnTheGpusOfThisMachine_gpu) {
  const GpuSearch search = testing::TestGpuSearch();
  const int count = GpuChain::Find(search).count();
  for (int ranks = 1; ranks <= std::max(1, count); ++ranks) {
    SCOPED_TRACE(ranks);
    const GpuChain chain = GpuChain::Find(search, {.wanted = ranks});
    if (!chain.status().ok()) GTEST_SKIP() << chain.status().message();
    std::vector<std::unique_ptr<Device>> gpus;
    for (const int index : chain.gpus()) {
      auto device = chain.MakeDevice({.index = index});
      ASSERT_TRUE(device.ok()) << device.status();
      gpus.push_back(*std::move(device));
    }
    auto communicator = chain.MakeCommunicator();
    ASSERT_TRUE(communicator.ok()) << communicator.status();
    EXPECT_EQ((*communicator)->ranks(), ranks);
    ExpectRight(gpus, **communicator);
    (*communicator)->Abort();
    EXPECT_THAT(std::string((*communicator)->status().message()), HasSubstr("given up"));
  }
}

}  // namespace
}  // namespace muster
