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

TEST(PushQueueTest, EarlierStepsGoFirstThenPriorityThenReplicasThenWhatWasAddedFirst) {
  PushQueue queue(1000, kTimeout);
  Add(queue, 0, 1, 1, /*priority=*/0);
  Add(queue, 0, 0, 2, 5);
  Add(queue, 1, 0, 3, 4);
  Add(queue, 0, 0, 4, 4);
  Add(queue, 0, 0, 5, 4);
  EXPECT_EQ(queue.queued_bytes(), 50);
  EXPECT_EQ(Taken(queue), "4 5 3 2 1 ");
  EXPECT_EQ(queue.queued_bytes(), 0);
}

TEST(PushQueueTest, WithoutCreditAPushWaitsButOneOfEachReplicaMayGo) {
  PushQueue queue(/*credit_bytes=*/20, kTimeout);
  for (int32_t slice = 0; slice < 4; ++slice) Add(queue, 1, 0, slice, slice);
  EXPECT_EQ(Taken(queue), "0 1 ");
  // Replica 0's gradients may be what those of replica 1 wait for.
  Add(queue, 0, 0, 7, 9);
  Add(queue, 0, 0, 8, 9);
  EXPECT_EQ(Taken(queue), "7 ");
  EXPECT_TRUE(Ack(queue, 1, 0, 1));
  EXPECT_EQ(Taken(queue), "") << "20 bytes are in flight";
  EXPECT_TRUE(Ack(queue, 1, 0, 0));
  EXPECT_EQ(Taken(queue), "2 ");
  EXPECT_TRUE(Ack(queue, 0, 0, 7));
  EXPECT_EQ(Taken(queue), "3 8 ") << "by the credit, and as the only one of replica 0";
}

// A server adds in the order of the replicas, and holds what comes out of turn: it acknowledges
// that at once, so a replica that got ahead would run further ahead, and the server would hold all
// of it.
TEST(PushQueueTest, AReplicaDoesNotOvertakeAnEarlierOne) {
  PushQueue queue(/*credit_bytes=*/20, kTimeout);
  for (int32_t slice = 0; slice < 4; ++slice) Add(queue, 0, 0, slice, slice);
  for (int32_t slice = 0; slice < 4; ++slice) Add(queue, 1, 0, slice, slice);
  EXPECT_EQ(Taken(queue), "0 0 ");
  EXPECT_TRUE(Ack(queue, 1, 0, 0));
  EXPECT_EQ(Taken(queue), "1 1 ");
  EXPECT_TRUE(Ack(queue, 1, 0, 1));
  EXPECT_EQ(Taken(queue), "") << "replica 0 has not sent slice 2 yet";
  EXPECT_TRUE(Ack(queue, 0, 0, 0));
  EXPECT_EQ(Taken(queue), "2 2 ");
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
