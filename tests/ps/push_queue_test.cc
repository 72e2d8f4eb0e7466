// Which push goes next, and when a replica has to wait for its credit.
#include "ps/push_queue.h"

#include <gtest/gtest.h>

#include <string>

#include "ps/wire.h"

namespace muster::ps {
namespace {

constexpr auto kTimeout = std::chrono::milliseconds(1000);

void Add(PushQueue& queue, int32_t replica, int64_t step, int32_t slice, int priority,
         size_t bytes = 10) {
  queue.Add(priority, PushMessage(slice, replica, step, /*want_params=*/false,
                                  rpc::Payload::Own(std::string(bytes, 'x'))));
}

// The slices that may go now, in order.
std::string Taken(PushQueue& queue) {
  std::string slices;
  for (rpc::Message push; queue.Take(push);) slices += std::to_string(push.header.slice) + " ";
  return slices;
}

bool Ack(PushQueue& queue, int32_t replica, int64_t step, int32_t slice) {
  return queue.Acknowledge(PushMessage(slice, replica, step, false, {}).header);
}

TEST(PushQueueTest, EarlierStepsGoFirstThenPriorityThenWhatWasAddedFirst) {
  PushQueue queue(1000, kTimeout);
  Add(queue, 0, 1, 1, /*priority=*/0);
  Add(queue, 0, 0, 2, 5);
  Add(queue, 1, 0, 3, 4);
  Add(queue, 0, 0, 4, 4);
  Add(queue, 0, 0, 5, 4);
  EXPECT_EQ(queue.queued_bytes(), 50);
  EXPECT_EQ(Taken(queue), "3 4 5 2 1 ");
  EXPECT_EQ(queue.queued_bytes(), 0);
}

TEST(PushQueueTest, AReplicaWithoutCreditWaitsAndAnotherGoesOn) {
  PushQueue queue(/*credit_bytes=*/20, kTimeout);
  for (int32_t slice = 0; slice < 4; ++slice) Add(queue, 0, 0, slice, slice);
  Add(queue, 1, 0, 7, 9);
  EXPECT_EQ(Taken(queue), "0 1 7 ");
  EXPECT_TRUE(Ack(queue, 0, 0, 1));
  EXPECT_EQ(Taken(queue), "2 ");
  EXPECT_TRUE(Ack(queue, 1, 0, 7)) << "another's credit is not ours";
  EXPECT_EQ(Taken(queue), "");
}

TEST(PushQueueTest, OnePushMayGoHoweverLarge) {
  PushQueue queue(20, kTimeout);
  Add(queue, 0, 0, 0, 0, /*bytes=*/100);
  Add(queue, 0, 0, 1, 1);
  EXPECT_EQ(Taken(queue), "0 ");
  EXPECT_TRUE(Ack(queue, 0, 0, 0));
  EXPECT_EQ(Taken(queue), "1 ");
}

TEST(PushQueueTest, AnAckIsForOnePushThatIsInFlight) {
  PushQueue queue(20, kTimeout);
  Add(queue, 0, 3, 0, 0);
  EXPECT_FALSE(Ack(queue, 0, 3, 0)) << "not sent yet";
  EXPECT_EQ(Taken(queue), "0 ");
  EXPECT_FALSE(Ack(queue, 0, 2, 0)) << "another step";
  EXPECT_FALSE(Ack(queue, 1, 3, 0)) << "another replica";
  EXPECT_FALSE(Ack(queue, 0, 3, 1)) << "another slice";
  EXPECT_TRUE(Ack(queue, 0, 3, 0));
  EXPECT_FALSE(Ack(queue, 0, 3, 0)) << "a second time";
}

TEST(PushQueueTest, TheOldestInFlightIsTheOneTakenFirst) {
  PushQueue queue(1000, kTimeout);
  EXPECT_EQ(queue.oldest(), nullptr);
  Add(queue, 0, 0, 1, 1);
  Add(queue, 0, 0, 0, 0);
  const auto before = PushQueue::Clock::now();
  EXPECT_EQ(Taken(queue), "0 1 ");
  ASSERT_NE(queue.oldest(), nullptr);
  EXPECT_EQ(queue.oldest()->slice, 0u);
  EXPECT_GE(queue.oldest()->deadline, before + kTimeout);
  EXPECT_TRUE(Ack(queue, 0, 0, 0));
  EXPECT_EQ(queue.oldest()->slice, 1u);
}

TEST(PushQueueTest, WhatIsClearedDoesNotGoAndAcksOfWhatWentAreStillKnown) {
  PushQueue queue(10, kTimeout);
  Add(queue, 0, 0, 0, 0);
  Add(queue, 0, 0, 1, 1);
  EXPECT_EQ(Taken(queue), "0 ");
  queue.Clear();
  EXPECT_EQ(queue.queued_bytes(), 0);
  EXPECT_TRUE(Ack(queue, 0, 0, 0));
  EXPECT_EQ(Taken(queue), "");
}

}  // namespace
}  // namespace muster::ps
