// Who sends to which server, and up to which step a client's pushes are acknowledged.
#include "ps/pushes.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ps/wire.h"

namespace muster::ps {
namespace {

rpc::Message PushOf(int64_t step, int32_t slice, bool want_params = false) {
  return PushMessage(slice, /*replica=*/0, step, want_params,
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

// Slices of 10 bytes, credit for four: a lead of one slice.
class AheadTest : public testing::Test {
 protected:
  void Queue(int server, int slices, int64_t step = 0) {
    for (int i = 0; i < slices; ++i) {
      pushes_.Add(server, 0, PushOf(step, slice_++, /*want_params=*/true));
    }
    pushes_.Flush(server);
  }
  // The slices that go to the server, which acknowledges them at once.
  std::vector<uint32_t> Send(int server) {
    std::vector<uint32_t> sent;
    for (rpc::Message push; pushes_.Take(server, push);) {
      sent.push_back(push.header.slice);
      pushes_.Acknowledge(server, push.header);
    }
    return sent;
  }
  void Begin(int server) { ASSERT_TRUE(pushes_.Begin(server, 0)); }

  Pushes pushes_{/*servers=*/2, /*credit_bytes=*/40, std::chrono::milliseconds(1000)};
  int32_t slice_ = 0;
};

TEST_F(AheadTest, AServerThatOwesMoreThanAnotherWaitsForThatOne) {
  Queue(0, 5);
  Queue(1, 5);
  Begin(1);
  rpc::Message in_flight;
  ASSERT_TRUE(pushes_.Take(1, in_flight));
  Begin(0);
  EXPECT_EQ(Send(0), (std::vector<uint32_t>{0, 1, 2})) << "until it owes two slices more";
  EXPECT_EQ(pushes_.Resume(), std::nullopt);
  rpc::Message another;
  ASSERT_TRUE(pushes_.Take(1, another));
  EXPECT_EQ(pushes_.Resume(), 0);
  EXPECT_EQ(Send(0), (std::vector<uint32_t>{3}));
  pushes_.Answered(0, 0, /*clock=*/1);
  EXPECT_EQ(pushes_.Resume(), 0) << "its answer came";
  EXPECT_EQ(Send(0), (std::vector<uint32_t>{4}));
}

TEST_F(AheadTest, ItDoesNotWaitForOneThatGetsNothing) {
  Queue(0, 5);
  pushes_.Add(1, 0, PushOf(0, 100, /*want_params=*/true));  // waits for company
  Begin(0);
  EXPECT_EQ(Send(0).size(), 5u);
}

TEST_F(AheadTest, AnswersThatNeverCameAreForgottenWithTheNextStep) {
  Queue(0, 3);
  Begin(0);
  EXPECT_EQ(Send(0).size(), 3u);
  Queue(0, 5, /*step=*/1);
  Queue(1, 5, /*step=*/1);
  Begin(1);
  rpc::Message in_flight;
  ASSERT_TRUE(pushes_.Take(1, in_flight));
  Begin(0);
  EXPECT_EQ(Send(0).size(), 3u) << "as in a first step";
  pushes_.Answered(0, 0, /*clock=*/1);
  EXPECT_EQ(pushes_.Resume(), std::nullopt) << "an answer of the step before";
}

TEST(Pushes, AllGoWhateverComesBackInWhichOrder) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    const int servers = 1 + static_cast<int>(random() % 4);
    Pushes pushes(static_cast<size_t>(servers), /*credit_bytes=*/1 + random() % 60,
                  std::chrono::milliseconds(1000));
    std::vector<std::pair<int, rpc::Header>> unacknowledged, unanswered;
    const bool answers = random() % 2 == 0;  // else only when all have come, as for norms
    int queued = 0, sent = 0;
    const auto send = [&](std::optional<int> to) {
      while (to) {
        rpc::Message push;
        if (pushes.Take(*to, push)) {
          ++sent;
          unacknowledged.emplace_back(*to, push.header);
          if ((push.header.flags & rpc::kWantParams) != 0) {
            unanswered.emplace_back(*to, push.header);
          }
        } else {
          to = pushes.Resume();
        }
      }
    };
    const auto pump = [&](int server) {
      send(pushes.Begin(server, /*least_bytes=*/25) ? server : pushes.Resume());
    };
    const auto take_one = [&](auto& from) {
      std::swap(from[random() % from.size()], from.back());
      const auto one = from.back();
      from.pop_back();
      return one;
    };
    const int all = static_cast<int>(random() % 60);
    bool flushed = false;
    while (sent < all || !unacknowledged.empty()) {
      const unsigned event = random() % 3;
      if (event == 0 && queued < all) {
        const int server = static_cast<int>(random() % static_cast<unsigned>(servers));
        pushes.Add(server, static_cast<int>(random() % 5), PushOf(0, queued++, random() % 4 != 0));
        pump(server);
      } else if (event == 1 && !unacknowledged.empty()) {
        const auto [server, header] = take_one(unacknowledged);
        pushes.Acknowledge(server, header);
        pump(server);
      } else if (event == 2 && answers && !unanswered.empty()) {
        const auto [server, header] = take_one(unanswered);
        pushes.Answered(server, header.slice, header.step + 1);
        send(pushes.Resume());
      } else if (queued == all && !flushed) {
        flushed = true;
        for (int server = 0; server < servers; ++server) {
          pushes.Flush(server);
          pump(server);
        }
      }
      ASSERT_FALSE(flushed && unacknowledged.empty() && sent < all) << "nothing moves any more";
    }
  }
}

TEST_F(PushesTest, WhatIsDroppedDoesNotGo) {
  pushes_.Add(0, 0, PushOf(0, 0));
  pushes_.Clear();
  ASSERT_TRUE(pushes_.Begin(0, 0));
  EXPECT_EQ(Take(0), 0);
}

}  // namespace
}  // namespace muster::ps
