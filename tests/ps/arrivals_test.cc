// Which answers a client waits for, where they go, and what deltas are added to.
#include "ps/arrivals.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "ps/wire.h"

namespace muster::ps {
namespace {

using ::testing::Test;

// A slice's parameters, all `value`.
rpc::Message ParamsOf(int32_t slice, int64_t clock, float value, size_t size) {
  const std::vector<float> values(size, value);
  return ParamsMessage(slice, /*replica=*/0, clock, /*version=*/clock,
                       rpc::Payload::Own(std::string(reinterpret_cast<const char*>(values.data()),
                                                     values.size() * sizeof(float))));
}

class ArrivalsTest : public Test {
 protected:
  void SetUp() override { arrivals_.SetArena(arena_); }
  // One answer as the client handles it. False when nobody has asked for it.
  bool Land(int32_t slice, int64_t clock, float value, Arrivals::Clock::time_point at = {}) {
    const auto size = static_cast<size_t>(partition_.slices[static_cast<size_t>(slice)].size);
    const rpc::Message answer = ParamsOf(slice, clock, value, size);
    const auto landing = arrivals_.Find(answer.header);
    if (!landing) return false;
    EXPECT_TRUE(landing->Take(answer).ok());
    arrivals_.Landed(answer.header, *landing, at);
    return true;
  }
  float First(int32_t slice) const {
    const ParamSlice& of = partition_.slices[static_cast<size_t>(slice)];
    return arena_[static_cast<size_t>(of.offset(table_))];
  }

  const ParamTable table_ = *ParamTable::Make({{.name = "w", .shape = {300'000}}});
  const Partition partition_ = MakePartition(table_, /*num_servers=*/1);
  std::vector<float> arena_ = std::vector<float>(static_cast<size_t>(table_.arena_size()));
  Arrivals arrivals_{table_, partition_};
};

TEST_F(ArrivalsTest, EachQuestionWantsAnAnswerAndNothingElseIsTaken) {
  ASSERT_GE(partition_.slices.size(), 2u);
  EXPECT_FALSE(Land(0, 3, 1));
  arrivals_.Expect(3, 0);
  arrivals_.Expect(3, 0);
  arrivals_.Expect(3, 1);
  EXPECT_EQ(arrivals_.missing(3), 3);
  EXPECT_FALSE(Land(0, 4, 1)) << "another clock";
  EXPECT_TRUE(Land(0, 3, 1));
  EXPECT_TRUE(Land(0, 3, 1));
  EXPECT_FALSE(Land(0, 3, 1)) << "that was asked for twice";
  EXPECT_EQ(arrivals_.missing(3), 1);
  EXPECT_TRUE(Land(1, 3, 2));
  EXPECT_EQ(arrivals_.missing(3), 0);
  EXPECT_EQ(First(0), 1);
  EXPECT_EQ(First(1), 2);
}

TEST_F(ArrivalsTest, WhatIsClosedIsNotWaitedForAndTellsItsFirstAnswer) {
  const Arrivals::Clock::time_point early{std::chrono::seconds(1)}, late{std::chrono::seconds(2)};
  EXPECT_FALSE(arrivals_.Close(1).has_value()) << "nobody has asked";
  arrivals_.Expect(2, 0);
  arrivals_.Expect(3, 0);
  arrivals_.Expect(3, 1);
  arrivals_.Expect(4, 0);
  EXPECT_TRUE(Land(1, 3, 1, late));
  EXPECT_TRUE(Land(0, 3, 1, early));
  EXPECT_EQ(arrivals_.Close(3), early);
  EXPECT_EQ(arrivals_.missing(2), 0) << "nor earlier ones";
  EXPECT_EQ(arrivals_.missing(4), 1);
}

TEST_F(ArrivalsTest, ADeltaOfOtherParametersThanThoseThatAreThereIsRefused) {
  const auto size = static_cast<size_t>(partition_.slices[0].size);
  for (const int64_t held : {-1, 1, 3}) {
    SCOPED_TRACE(held);
    Arrivals arrivals(table_, partition_);
    arrivals.SetArena(arena_);
    if (held >= 0) {
      arrivals.Expect(held, 0);
      const rpc::Message whole = ParamsOf(0, held, 1, size);
      const auto landing = arrivals.Find(whole.header);
      ASSERT_TRUE(landing.has_value());
      ASSERT_TRUE(landing->Take(whole).ok());
      arrivals.Landed(whole.header, *landing, {});
      EXPECT_TRUE(arrivals.Holds(0, held));
      EXPECT_FALSE(arrivals.Holds(0, held + 1));
    }
    arrivals.Expect(3, 0);
    rpc::Message delta = ParamsOf(0, 3, 1, size);
    delta.header.flags |= kDelta;
    const auto landing = arrivals.Find(delta.header);
    ASSERT_TRUE(landing.has_value());
    const absl::Status taken = landing->Take(delta);
    if (held == 3) {
      EXPECT_TRUE(taken.ok()) << "it is there already";
      EXPECT_EQ(First(0), 1);
    } else {
      EXPECT_TRUE(absl::IsInternal(taken)) << taken;
    }
  }
}

}  // namespace
}  // namespace muster::ps
