// Who sends to which server, and up to which step a client's pushes are acknowledged.
#include "ps/pushes.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "ps/wire.h"

namespace muster::ps {
namespace {

rpc::Message PushOf(int64_t step, int32_t slice) {
  return PushMessage(slice, /*replica=*/0, step, /*want_params=*/false,
                     rpc::Payload::Own(std::string(10, 'x')));
}

class PushesTest : public testing::Test {
 protected:
  // How many may go to the server now.
  int Take(int server) {
    int taken = 0;
    for (rpc::Message push; pushes_.Take(server, push);) ++taken;
    return taken;
  }
  Pushes::Ack Ack(int server, int64_t step, int32_t slice) {
    return pushes_.Acknowledge(server, PushOf(step, slice).header);
  }

  Pushes pushes_{/*servers=*/2, /*credit_bytes=*/20, std::chrono::milliseconds(1000)};
};

TEST_F(PushesTest, WhatIsQueuedWaitsForCompanyOrAFlush) {
  pushes_.Add(0, /*priority=*/0, PushOf(0, 0));
  EXPECT_FALSE(pushes_.Begin(0, /*least_bytes=*/11));
  EXPECT_TRUE(pushes_.Begin(0, 10));
  EXPECT_EQ(Take(0), 1);
  pushes_.Add(0, 0, PushOf(0, 1));
  pushes_.Flush(0);
  EXPECT_TRUE(pushes_.Begin(0, 1000));
  EXPECT_EQ(Take(0), 1);
  EXPECT_FALSE(pushes_.Begin(0, 1000)) << "all has gone that was flushed";
}

TEST_F(PushesTest, AFlushHoldsForWhatHasNoCreditYet) {
  for (int32_t slice = 0; slice < 3; ++slice) pushes_.Add(0, slice, PushOf(0, slice));
  pushes_.Flush(0);
  ASSERT_TRUE(pushes_.Begin(0, 1000));
  EXPECT_EQ(Take(0), 2);
  EXPECT_EQ(Ack(0, 0, 0), Pushes::Ack::kTaken);
  EXPECT_TRUE(pushes_.Begin(0, 1000));
  EXPECT_EQ(Take(0), 1);
}

TEST_F(PushesTest, OneAtATimeSendsToAServerUntilNothingMoreMayGo) {
  pushes_.Add(0, 0, PushOf(0, 0));
  pushes_.Add(1, 0, PushOf(0, 1));
  EXPECT_TRUE(pushes_.Begin(0, 0));
  EXPECT_FALSE(pushes_.Begin(0, 0));
  EXPECT_TRUE(pushes_.Begin(1, 0)) << "another server's";
  pushes_.Add(0, 0, PushOf(0, 2));
  EXPECT_EQ(Take(0), 2) << "also what came meanwhile";
  EXPECT_TRUE(pushes_.Begin(0, 0));
}

TEST_F(PushesTest, AStepIsAcknowledgedWithItsLastPushToAnyServer) {
  pushes_.Add(0, 0, PushOf(4, 0));
  pushes_.Add(1, 0, PushOf(4, 1));
  pushes_.Add(1, 0, PushOf(5, 1));
  EXPECT_TRUE(pushes_.AcknowledgedBefore(4));
  EXPECT_FALSE(pushes_.AcknowledgedBefore(5));
  for (const int server : {0, 1}) {
    ASSERT_TRUE(pushes_.Begin(server, 0));
    Take(server);
  }
  EXPECT_EQ(Ack(0, 4, 1), Pushes::Ack::kNotSent) << "to that one";
  EXPECT_EQ(Ack(0, 4, 0), Pushes::Ack::kTaken);
  EXPECT_FALSE(pushes_.AcknowledgedBefore(5));
  EXPECT_EQ(Ack(1, 4, 1), Pushes::Ack::kLastOfStep);
  EXPECT_EQ(Ack(1, 4, 1), Pushes::Ack::kNotSent) << "twice";
  EXPECT_TRUE(pushes_.AcknowledgedBefore(5));
  EXPECT_FALSE(pushes_.AcknowledgedBefore(6));
}

TEST_F(PushesTest, TheFirstThatIsDueIsTheOldestOfAllServers) {
  EXPECT_EQ(pushes_.FirstDue().push, nullptr);
  pushes_.Add(1, 0, PushOf(0, 7));
  EXPECT_EQ(pushes_.FirstDue().push, nullptr) << "it is not on its way";
  ASSERT_TRUE(pushes_.Begin(1, 0));
  Take(1);
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  pushes_.Add(0, 0, PushOf(0, 3));
  ASSERT_TRUE(pushes_.Begin(0, 0));
  Take(0);
  EXPECT_EQ(pushes_.FirstDue().server, 1);
  EXPECT_EQ(pushes_.FirstDue().push->slice, 7u);
  Ack(1, 0, 7);
  EXPECT_EQ(pushes_.FirstDue().server, 0);
}

TEST_F(PushesTest, WhatIsDroppedDoesNotGo) {
  pushes_.Add(0, 0, PushOf(0, 0));
  pushes_.Clear();
  ASSERT_TRUE(pushes_.Begin(0, 0));
  EXPECT_EQ(Take(0), 0);
}

}  // namespace
}  // namespace muster::ps
