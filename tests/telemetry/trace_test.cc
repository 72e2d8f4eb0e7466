#include "telemetry/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

namespace muster {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Json = nlohmann::json;
using std::chrono::microseconds;

Trace::Options Asked(int64_t from_step, int64_t steps, size_t capacity = 100) {
  return {.id = 7,
          .role = "worker-1",
          .detail = "pid 4711 on a",
          .from_step = from_step,
          .steps = steps,
          .capacity = capacity};
}

Trace::Event At(int64_t begin_us, int64_t end_us, const char* name = "sum") {
  return {.name = name,
          .begin = Trace::Clock::time_point(microseconds(begin_us)),
          .end = Trace::Clock::time_point(microseconds(end_us))};
}

// The events of `phase`: "X" (complete) or "M" (metadata).
std::vector<Json> EventsOf(const Trace& trace, const std::string& phase) {
  std::vector<Json> events;
  for (const Json& event : Json::parse(trace.Json())) {
    if (event["ph"] == phase) events.push_back(event);
  }
  return events;
}

std::vector<std::string> Names(const Trace& trace) {
  std::vector<std::string> names;
  for (const Json& event : EventsOf(trace, "X")) names.push_back(event["name"]);
  return names;
}

TEST(TraceTest, AnEventHasTheFieldsOfTheFormat) {
  Trace trace(Asked(0, 10));
  const TraceThread thread(&trace, "shard 0");
  Trace::Event event = At(2'000'000, 2'000'500);
  event.step = 3;
  event.replica = 1;
  event.slice = 12;
  event.parameter = "conv/weights";
  thread.Add(event);
  const auto events = EventsOf(trace, "X");
  ASSERT_EQ(events.size(), 1U);
  EXPECT_EQ(events[0], Json::parse(R"({"name": "sum", "ph": "X", "ts": 2000000.0, "dur": 500.0,
      "pid": 7, "tid": 1,
      "args": {"step": 3, "replica": 1, "slice": 12, "parameter": "conv/weights"}})"));
}

TEST(TraceTest, RoleAndThreadsAreNamed) {
  Trace trace(Asked(0, 10));
  EXPECT_EQ(trace.AddThread("shard 0"), 1);
  EXPECT_EQ(trace.AddThread("shard 1"), 2);
  std::vector<std::string> texts;
  for (const Json& event : EventsOf(trace, "M")) {
    EXPECT_EQ(event["pid"], 7);
    texts.push_back(event["name"].get<std::string>() + " " + event["tid"].dump() + " " +
                    event["args"].dump());
  }
  EXPECT_THAT(texts, ElementsAre(R"(process_name 0 {"name":"worker-1"})",
                                 R"(process_labels 0 {"labels":"pid 4711 on a"})",
                                 R"(process_sort_index 0 {"sort_index":7})",
                                 R"(thread_name 1 {"name":"shard 0"})",
                                 R"(thread_name 2 {"name":"shard 1"})"));
}

TEST(TraceTest, OnlyTheStepsAskedForAreKept) {
  Trace trace(Asked(5, 2));
  const TraceThread thread(&trace, "trainer");
  for (int64_t step = 0; step < 10; ++step) {
    const TraceSpan span(thread, "forward", step, 0);
    Trace::Event event = At(1, 2, "wait");
    event.step = step;
    thread.Add(event);
  }
  std::vector<int64_t> steps;
  for (const Json& event : EventsOf(trace, "X")) steps.push_back(event["args"]["step"]);
  EXPECT_THAT(steps, ::testing::UnorderedElementsAre(5, 5, 6, 6));
  EXPECT_TRUE(Trace(Asked(5, std::numeric_limits<int64_t>::max()))
                  .Covers(std::numeric_limits<int64_t>::max()));
}

TEST(TraceTest, EventsComeByTheirBeginAndWhatHoldsOthersBeforeThem) {
  Trace trace(Asked(0, 1));
  trace.Add(At(30, 40, "push"));
  trace.Add(At(20, 30, "push of nothing else"));
  trace.Add(At(20, 90, "backward"));
  trace.Add(At(10, 20, "forward"));
  EXPECT_THAT(Names(trace), ElementsAre("forward", "backward", "push of nothing else", "push"));
}

TEST(TraceTest, ASpanLastsFromConstructionToDestruction) {
  Trace trace(Asked(0, 1));
  const TraceThread thread(&trace, "trainer");
  const auto before = Trace::Clock::now();
  {
    const TraceSpan outer(thread, "backward", 0, 2);
    const TraceSpan inner(thread, "push", 0, 2);
  }
  const auto after = Trace::Clock::now();
  const auto events = EventsOf(trace, "X");
  ASSERT_THAT(Names(trace), ElementsAre("backward", "push"));
  const auto begin = [&](int i) { return events[i]["ts"].get<double>(); };
  const auto end = [&](int i) { return begin(i) + events[i]["dur"].get<double>(); };
  const auto micros = [](Trace::Clock::time_point at) {
    return std::chrono::duration<double, std::micro>(at.time_since_epoch()).count();
  };
  constexpr double kRounding = 0.002;  // thrice to a nanosecond
  EXPECT_GE(begin(0), micros(before) - kRounding);
  EXPECT_GE(begin(1), begin(0));
  EXPECT_LE(end(1), end(0) + kRounding);
  EXPECT_LE(end(0), micros(after) + kRounding);
  EXPECT_EQ(events[0]["args"]["replica"], 2);
}

TEST(TraceTest, WhatFindsNoRoomIsCountedAndDropped) {
  Trace trace(Asked(0, 1, /*capacity=*/3));
  for (int64_t i = 0; i < 5; ++i) trace.Add(At(i, i + 1, i < 3 ? "kept" : "dropped"));
  EXPECT_THAT(Names(trace), ElementsAre("kept", "kept", "kept"));
  EXPECT_EQ(trace.size(), 3);
  EXPECT_EQ(trace.dropped(), 2);
}

TEST(TraceTest, ThreadsShareABoundedTrace) {
  Trace trace(Asked(0, 1, /*capacity=*/1000));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&trace, thread = TraceThread(&trace, "shard")] {
      for (int i = 0; i < 400; ++i) {
        const TraceSpan span(thread, "sum", 0, 0);
        if (i == 200) (void)trace.Json();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(EventsOf(trace, "X").size(), 1000U);
  EXPECT_EQ(trace.dropped(), 600);
}

TEST(TraceTest, NamesOfAnyBytesAreValidJson) {
  Trace::Options options = Asked(0, 1);
  options.role = "a \"role\"\n\x01\\";
  Trace trace(options);
  trace.AddThread("\xff not UTF-8");
  Trace::Event event = At(0, 1);
  event.parameter = "we\"ights\\";
  trace.Add(event);
  const Json json = Json::parse(trace.Json(), nullptr, /*allow_exceptions=*/false);
  ASSERT_TRUE(json.is_array());
  EXPECT_EQ(json[0]["args"]["name"], options.role);
  EXPECT_EQ(EventsOf(trace, "X").at(0)["args"]["parameter"], "we\"ights\\");
}

TEST(TraceTest, WithoutATraceNothingHappens) {
  const TraceThread none(nullptr, "trainer");
  EXPECT_FALSE(none.Covers(0));
  const TraceSpan span(none, "forward", 0, 0);
  none.Add(At(0, 1));
  EXPECT_THAT(Names(Trace(Asked(0, 1))), IsEmpty());
}

}  // namespace
}  // namespace muster
