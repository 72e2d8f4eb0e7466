// The ring between two ends: what it carries, how it sleeps and wakes, and what it refuses. Both
// ends see the same memory, so that tsan sees both sides.
#include "rpc/ring.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "rpc/idle_cores.h"
#include "rpc/ring_poller.h"
#include "telemetry/mutex.h"

namespace muster::rpc {
namespace {

struct alignas(64) Memory {
  std::byte bytes[kRingMemoryBytes] = {};
  RingControl& control() { return *reinterpret_cast<RingControl*>(bytes); }
  std::byte* ring() { return bytes + sizeof(RingControl); }
};

class RingTest : public testing::Test {
 protected:
  static absl::StatusOr<bool> Write(Ring& ring, int64_t step, size_t bytes) {
    const std::vector<std::byte> text(bytes, static_cast<std::byte>(step));
    const Payload::Slice slice = {text, nullptr};
    Ring::Record record;
    record.bytes = static_cast<uint32_t>(bytes);
    record.header.step = step;
    return ring.Write(record, {&slice, 1});
  }
  // The step of the next record, whose bytes must be as Write made them; -1: there is none.
  static int64_t Read(Ring& ring) {
    Ring::Record record;
    const auto any = ring.Peek(&record);
    EXPECT_TRUE(any.ok()) << any.status();
    if (!any.ok() || !*any) return -1;
    std::vector<std::byte> bytes(record.bytes);
    ring.Take(record, bytes.data());
    EXPECT_EQ(bytes,
              std::vector<std::byte>(bytes.size(), static_cast<std::byte>(record.header.step)));
    return record.header.step;
  }

  const std::unique_ptr<Memory> a_memory_ = std::make_unique<Memory>(),
                                b_memory_ = std::make_unique<Memory>();
  Ring a_{a_memory_->bytes, b_memory_->bytes}, b_{b_memory_->bytes, a_memory_->bytes};
};

TEST_F(RingTest, RecordsComeOutAsTheyWentInHoweverTheyWrapAround) {
  const auto seed = std::random_device()();
  RecordProperty("seed", std::to_string(seed));
  std::mt19937 rng(seed);
  int64_t written = 0, read = 0;
  size_t bytes = 0;  // over ten times the ring
  while (bytes < 10 * kRingBytes) {
    const size_t size = rng() % 5 == 0 ? rng() % (kRingBytes / 4) : rng() % 100;
    const auto done = Write(a_, written, size);
    ASSERT_TRUE(done.ok()) << done.status();
    if (*done) {
      ++written;
      bytes += size;
    }
    if (!*done || rng() % 2 == 0) {
      ASSERT_EQ(Read(b_), read) << "seed " << seed;
      ++read;
    }
  }
  while (read < written) ASSERT_EQ(Read(b_), read++);
  EXPECT_EQ(Read(b_), -1);
}

TEST_F(RingTest, AFullRingTakesNothingUntilSomethingWasRead) {
  int64_t n = 0;
  while (*Write(a_, n, 1000)) ++n;
  EXPECT_GE(n * 1000, static_cast<int64_t>(kRingBytes) * 9 / 10);
  EXPECT_FALSE(a_.room());
  EXPECT_EQ(Read(b_), 0);
  EXPECT_TRUE(a_.room());
  EXPECT_TRUE(*Write(a_, n, 1000));
}

TEST_F(RingTest, OnlyASleeperIsRungForAndOnce) {
  const auto& bell = a_memory_->control().bell;
  ASSERT_TRUE(*Write(a_, 0, 8));
  a_.WakeReader();
  EXPECT_EQ(bell, 0u) << "it is awake";
  EXPECT_TRUE(b_.something());
  b_.FallAsleep();
  a_.WakeReader();
  a_.WakeReader();
  EXPECT_EQ(bell, 1u);
  b_.Awake();
  EXPECT_EQ(Read(b_), 0);
  EXPECT_FALSE(b_.something());
  b_.WakeWriter();
  EXPECT_EQ(b_memory_->control().bell, 0u) << "nobody waits for room";
  for (int64_t n = 0; *Write(a_, n, 1000); ++n) {
  }
  EXPECT_EQ(Read(b_), 0);
  b_.WakeWriter();
  b_.WakeWriter();
  EXPECT_EQ(b_memory_->control().bell, 1u);
  EXPECT_EQ(Read(b_), 1);
  b_.WakeWriter();
  EXPECT_EQ(b_memory_->control().bell, 2u) << "what was freed first may not have been enough";
}

// Reads a ring on a poller's thread, and passes on what came.
class Echo : public Polled {
 public:
  Echo(Ring& ring, int64_t count) : ring_(ring), count_(count) {}
  bool Poll() override {
    bool did = false;
    Ring::Record record;
    while (*ring_.Peek(&record)) {
      std::vector<std::byte> bytes(record.bytes);
      ring_.Take(record, bytes.data());
      MutexLock lock(mu_);
      in_order_ &= record.header.step == next_++;
      done_.NotifyAll();
      did = true;
    }
    if (did) ring_.WakeWriter();
    return did;
  }
  Bell bell() override { return {&ring_.bell(), ring_.bell().load()}; }
  bool FallAsleep() override {
    ring_.FallAsleep();
    return !ring_.something();
  }
  void Awake() override { ring_.Awake(); }
  bool WaitDone() {
    MutexLock lock(mu_);
    while (next_ < count_) done_.Wait(mu_);
    return in_order_;
  }
  int64_t next() {
    MutexLock lock(mu_);
    return next_;
  }
  // Without helping.
  void WaitFor(int64_t n) {
    MutexLock lock(mu_);
    while (next_ < n) done_.Wait(mu_);
  }

 private:
  Ring& ring_;
  const int64_t count_;
  Mutex mu_;
  CondVar done_;
  int64_t next_ ABSL_GUARDED_BY(mu_) = 0;
  bool in_order_ ABSL_GUARDED_BY(mu_) = true;
};

TEST_F(RingTest, NobodySleepsThroughAMessageOrWaitsForRoomThatIsThere) {
  if (!CanAwaitBells()) GTEST_SKIP() << "this system cannot sleep on several bells (Linux 5.16)";
  constexpr int64_t kMessages = 20'000;
  RingPoller poller;
  const auto echo = std::make_shared<Echo>(b_, kMessages);
  ASSERT_TRUE(poller.Add(echo));
  std::mt19937 rng(7);
  for (int64_t n = 0; n < kMessages;) {
    // Without spinning: a wake-up that is lost leaves this test hanging.
    const uint32_t bell = a_.bell().load();
    if (*Write(a_, n, rng() % 2000)) {
      if (n++ % 3 == 0 || n == kMessages) a_.WakeReader();
      continue;
    }
    a_.WakeReader();
    const Bell room = {&a_.bell(), bell};
    if (!a_.room()) AwaitBells({&room, 1});
  }
  EXPECT_TRUE(echo->WaitDone());
  poller.Remove(echo.get());
}

// A wake-up that is lost leaves these hanging.
TEST_F(RingTest, AHelperAndTheThreadPollInTurnsAndMissNothing) {
  if (!CanAwaitBells()) GTEST_SKIP() << "this system cannot sleep on several bells (Linux 5.16)";
  constexpr int64_t kMessages = 3'000;
  const auto seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RingPoller poller;
  const auto echo = std::make_shared<Echo>(b_, kMessages);
  ASSERT_TRUE(poller.Add(echo));
  std::atomic<int64_t> wanted = 0;  // how many shall be written
  std::thread writer([&] {
    std::mt19937 rng(seed);
    for (int64_t n = 0; n < kMessages; ++n) {
      while (wanted <= n) std::this_thread::yield();
      if (rng() % 4 == 0) std::this_thread::sleep_for(std::chrono::microseconds(rng() % 300));
      ASSERT_TRUE(*Write(a_, n, rng() % 100));
      a_.WakeReader();
    }
  });
  std::mt19937 rng(seed + 1);
  for (int64_t next = 0; next < kMessages;) {
    next = std::min(kMessages, next + 1 + static_cast<int64_t>(rng() % 5));
    wanted = next;
    if (rng() % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(rng() % 2000));
    if (rng() % 4 == 0) {
      echo->WaitFor(next);
    } else {
      ASSERT_TRUE(poller.Help([&] { return echo->next() >= next; },
                              std::chrono::steady_clock::time_point::max()));
    }
  }
  writer.join();
  EXPECT_TRUE(echo->WaitDone());
  poller.Remove(echo.get());
}

TEST_F(RingTest, AHelperEndsAtItsDeadlineAndLooksUpWhenItIsWoken) {
  if (!CanAwaitBells()) GTEST_SKIP() << "this system cannot sleep on several bells (Linux 5.16)";
  using Clock = std::chrono::steady_clock;
  RingPoller poller;
  const auto never = [] { return false; };
  EXPECT_FALSE(poller.Help(never, Clock::time_point::max())) << "there is nothing to poll";
  const auto echo = std::make_shared<Echo>(b_, 1);
  ASSERT_TRUE(poller.Add(echo));
  EXPECT_TRUE(poller.Help(never, Clock::now() + std::chrono::milliseconds(5)));
  std::atomic<bool> done = false, helping = false;
  std::thread other([&] {
    while (!helping) std::this_thread::yield();
    EXPECT_FALSE(poller.Help(never, Clock::time_point::max())) << "somebody helps already";
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    done = true;
    poller.Wake();
  });
  EXPECT_TRUE(poller.Help(
      [&] {
        helping = true;
        return done.load();
      },
      Clock::time_point::max()));
  other.join();
  // What is added and removed while somebody helps is seen.
  std::thread helper(
      [&] { poller.Help([&] { return echo->next() == 1; }, Clock::time_point::max()); });
  const auto more = std::make_shared<Echo>(a_, 1);
  ASSERT_TRUE(poller.Add(more));
  poller.Remove(more.get());
  ASSERT_TRUE(*Write(a_, 0, 1));
  a_.WakeReader();
  helper.join();
  poller.Remove(echo.get());
}

// Who calls Help for each of many short waits does not wake the thread each time.
TEST_F(RingTest, AHelperThatComesOftenLeavesTheThreadAsleep) {
  if (!CanAwaitBells()) GTEST_SKIP() << "this system cannot sleep on several bells (Linux 5.16)";
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kHelps = 5'000;
  // As a receiver does when what somebody waits for has come.
  class Waker : public Polled {
   public:
    Waker(RingPoller& poller, Echo& echo) : poller_(poller), echo_(echo) {}
    bool Poll() override {
      if (!echo_.Poll()) return false;
      poller_.Wake();
      return true;
    }
    Bell bell() override { return echo_.bell(); }
    bool FallAsleep() override { return echo_.FallAsleep(); }
    void Awake() override { echo_.Awake(); }

   private:
    RingPoller& poller_;
    Echo& echo_;
  };
  RingPoller poller;
  Echo echo(b_, kHelps);
  const auto waker = std::make_shared<Waker>(poller, echo);
  ASSERT_TRUE(poller.Add(waker));
  const auto sleeps = [] {
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw;
  };
  const auto before = sleeps();
  const auto begin = Clock::now();
  for (int64_t n = 0; n < kHelps; ++n) {
    const auto answer = Clock::now() + std::chrono::microseconds(20);
    bool written = false;
    const auto done = [&] {
      if (!written && Clock::now() > answer) written = *Write(a_, n, 8);
      return echo.next() > n;
    };
    while (echo.next() <= n) poller.Help(done, answer + std::chrono::milliseconds(1));
  }
  // The thread looks every millisecond; on a busy machine the helper sleeps, too.
  const auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
  EXPECT_LT(sleeps() - before, kHelps / 2 + 4 * elapsed.count());
  poller.Remove(waker.get());
}

TEST(IdleCoresTest, TheKernelSaysHowManyThreadsAreRunnable) {
  EXPECT_EQ(RunnableThreads("0.41 1.99 3.03 2/345 6789\n"), 2);
  EXPECT_EQ(RunnableThreads("0.41 1.99 3.03 17/345 6789\n"), 17);
  for (const char* text : {"", "0.41 1.99 3.03", "0.41 1.99 3.03 ", "0.41 1.99 3.03 x/2 1",
                           "0.41 1.99 3.03 12", "0.41"}) {
    EXPECT_EQ(RunnableThreads(text), -1) << text;
  }
}

TEST_F(RingTest, AStrangersRingCanOnlyBeRefused) {
  const auto refused = [&](uint64_t produced, uint32_t kind, uint32_t bytes) {
    a_memory_->control().produced = produced;
    std::memcpy(a_memory_->ring(), &kind, sizeof(kind));
    std::memcpy(a_memory_->ring() + sizeof(kind), &bytes, sizeof(bytes));
    Ring::Record record;
    return absl::IsInvalidArgument(b_.Peek(&record).status());
  };
  EXPECT_FALSE(refused(72, 1, 0));
  EXPECT_TRUE(refused(71, 1, 0)) << "less than a record";
  EXPECT_TRUE(refused(72, 1, 1)) << "bytes that are not there";
  EXPECT_TRUE(refused(kRingBytes, 1, kRingBytes / 4 + 1));
  EXPECT_TRUE(refused(kRingBytes, 1, ~uint32_t{0}));
  EXPECT_TRUE(refused(kRingBytes + 8, 1, 0)) << "more than fits";
  EXPECT_TRUE(refused(~uint64_t{0}, 1, 0));
  EXPECT_TRUE(refused(72, 0, 0));
  EXPECT_TRUE(refused(72, 6, 0));

  while (*Write(b_, 1, 60'000)) {
  }
  a_memory_->control().consumed = ~uint64_t{0};
  EXPECT_TRUE(absl::IsInvalidArgument(Write(b_, 1, 60'000).status()));
}

}  // namespace
}  // namespace muster::rpc
