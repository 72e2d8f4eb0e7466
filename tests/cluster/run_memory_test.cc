// A launcher that comes late sees what one sees that was there from the beginning: whatever the
// master has said, a follower that hears the memory's events shows the same.
#include "cluster/run_memory.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <random>

#include "cluster/follower.h"

namespace muster::cluster {
namespace {

using master::RunState;
using master::StatusLine;

FollowerOptions Options() {
  FollowerOptions options;
  options.job_id = "job";
  options.roles = {{"master", 0, ""}, {"chief", 0, ""}, {"worker", 0, ""}, {"ps", 0, ""}};
  options.max_running_ms = 1'000'000;
  return options;
}

// Tells `follower` what was remembered at `now_ms`.
void Tell(const RunMemory& memory, int64_t now_ms, Follower& follower) {
  for (const NodeEvent& event : memory.Events(now_ms)) {
    if (event.has_started()) {
      follower.OnStarted(static_cast<size_t>(event.started().role()),
                         now_ms - event.started().age_ms());
    } else if (event.has_status()) {
      const auto line = master::DecodeStatusLine(event.status().line());
      ASSERT_TRUE(line.ok());
      follower.OnLine(*line, now_ms - event.status().age_ms());
    } else if (event.has_exited()) {
      follower.OnExit(static_cast<size_t>(event.exited().role()),
                      {event.exited().code(), event.exited().signal()}, now_ms);
    }
  }
}

StatusLine AnyLine(std::mt19937& random, int64_t* step) {
  const auto maybe = [&](double value) {
    return random() % 2 ? std::optional<double>(value) : std::nullopt;
  };
  switch (random() % 4) {
    case 0:
      return master::StateLine{random() % 2 ? RunState::kPreparing : RunState::kRunning,
                               fmt::format("stage {}", random() % 5)};
    case 1:
      return master::ReplicaLine{.role = random() % 2 ? "worker" : "ps",
                                 .state = random() % 2 ? "REGISTERED" : "READY"};
    case 2:
      return master::MessageLine{.text = "note"};
    default: {
      *step += static_cast<int64_t>(random() % 10);
      master::ProgressLine line{.step = *step, .total_steps = 10'000};
      line.loss = maybe(0.1 * static_cast<double>(random() % 10));
      line.validation_accuracy = maybe(0.01 * static_cast<double>(random() % 100));
      line.samples_per_second = maybe(static_cast<double>(random() % 1000));
      return line;
    }
  }
}

TEST(RunMemory, WhoeverComesLateShowsWhatOneShowsThatWasThere) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 200; ++round) {
    RunMemory memory;
    Follower there(Options(), 1'000);
    int64_t now = 1'000, step = 0;
    for (size_t role = 0; role < 4; ++role) {
      memory.OnStarted(static_cast<int64_t>(role), "name", 0, now);
      there.OnStarted(role, now);
    }
    const auto say = [&](const StatusLine& line) {
      memory.OnLine(line, now);
      there.OnLine(line, now);
    };
    say(master::ListeningLine{"host:1"});
    for (unsigned i = 0; i < random() % 100; ++i) {
      now += static_cast<int64_t>(random() % 1000);
      say(AnyLine(random, &step));
    }
    now += 500;
    Follower late(Options(), now);
    Tell(memory, now, late);
    const DisplayState a = there.Display(now), b = late.Display(now);
    EXPECT_EQ(a.state, b.state);
    EXPECT_EQ(a.stage, b.stage);
    EXPECT_EQ(a.step, b.step);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_EQ(a.validation_accuracy, b.validation_accuracy);
    EXPECT_EQ(a.samples_per_second, b.samples_per_second);
    EXPECT_EQ(a.elapsed_ms, b.elapsed_ms);
    EXPECT_EQ(a.ready_roles, b.ready_roles);
    EXPECT_EQ(there.master_address(), late.master_address());
    EXPECT_EQ(there.EndsBy(now), late.EndsBy(now)) << "the running time is counted from its begin";
  }
}

TEST(RunMemory, AnEndThatNobodySawIsJudgedAsIfItHadBeenSeen) {
  RunMemory memory;
  for (int64_t role = 0; role < 4; ++role) memory.OnStarted(role, "name", 0, 0);
  memory.OnLine(master::ListeningLine{"host:1"}, 1);
  memory.OnLine(master::ResultLine{.step = 7}, 2);
  memory.OnLine(master::StateLine{RunState::kSucceeded, ""}, 3);
  for (int64_t role = 0; role < 4; ++role) memory.OnExit(role, 100, {});
  Follower late(Options(), 10);
  Tell(memory, 10, late);
  EXPECT_TRUE(late.done());
  EXPECT_EQ(late.outcome(), RunState::kSucceeded);
  EXPECT_EQ(late.result()->step, 7);
}

TEST(RunMemory, ItDoesNotGrowWithTheRun) {
  RunMemory memory;
  memory.OnStarted(0, "master-0", 0, 0);
  for (int64_t i = 0; i < 10'000; ++i) {
    memory.OnLine(master::MessageLine{.text = fmt::format("warning {}", i)}, i);
    memory.OnLine(master::ProgressLine{.step = i}, i);
    memory.OnLine(master::ReplicaLine{.role = "ps", .state = "READY"}, i);
  }
  const auto events = memory.Events(10'000);
  EXPECT_EQ(events.size(), 1 + RunMemory::kMessages + 2);
}

}  // namespace
}  // namespace muster::cluster
