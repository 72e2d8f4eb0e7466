#include "master/lag_watch.h"

#include <gtest/gtest.h>

namespace muster::master {
namespace {

constexpr int64_t kNow = 1'795'242'600'000;

// A chief at step 12 and two workers at step 9, heard of just now; a server silent for long.
std::vector<Member> Members() {
  std::vector<Member> members(4);
  members[0].role = {RoleId::Kind::kChief, 0};
  members[1].role = {RoleId::Kind::kWorker, 0};
  members[2].role = {RoleId::Kind::kWorker, 1};
  members[3].role = {RoleId::Kind::kServer, 0};
  for (Member& member : members) {
    member.state = Member::State::kReady;
    member.clock = 9;
    member.last_seen_ms = kNow;
  }
  members[0].clock = 12;
  members[3].last_seen_ms = kNow - 20'000;
  return members;
}

TEST(Lagging, NamesAReadyTrainerThatIsSilentForMoreThanThreeSeconds) {
  std::vector<Member> members = Members();
  members[2].last_seen_ms = kNow - 3'000;
  EXPECT_TRUE(Lagging(members, kNow).empty());
  const auto lagging = Lagging(members, kNow + 1);
  ASSERT_EQ(lagging.size(), 1u);
  EXPECT_EQ(lagging[0].role, "worker");
  EXPECT_EQ(lagging[0].index, 1);
  EXPECT_EQ(lagging[0].steps_behind, 3);
  EXPECT_EQ(lagging[0].silent_ms, 3'001);
}

TEST(Lagging, WhoIsNotYetReadyOrHasFinishedMayBeSilent) {
  std::vector<Member> members = Members();
  members[1].state = Member::State::kRegistered;
  members[2].state = Member::State::kFinished;
  members[1].last_seen_ms = members[2].last_seen_ms = 0;
  EXPECT_TRUE(Lagging(members, kNow).empty());
}

TEST(LagWatch, SaysNothingWhileNobodyLags) {
  LagWatch watch;
  EXPECT_FALSE(watch.Look(Members(), kNow).has_value());
}

TEST(LagWatch, TellsOnceASecondWhoLagsAndOnceThatNobodyDoesAnyMore) {
  LagWatch watch;
  std::vector<Member> members = Members();
  members[1].last_seen_ms = kNow - 4'000;
  auto told = watch.Look(members, kNow);
  ASSERT_TRUE(told.has_value());
  EXPECT_EQ(told->at(0).silent_ms, 4'000);
  EXPECT_FALSE(watch.Look(members, kNow + 999).has_value()) << "it has just been told";
  told = watch.Look(members, kNow + 1'000);
  ASSERT_TRUE(told.has_value());
  EXPECT_EQ(told->at(0).silent_ms, 5'000);

  members[1].last_seen_ms = kNow + 1'500;
  EXPECT_FALSE(watch.Look(members, kNow + 1'999).has_value());
  told = watch.Look(members, kNow + 2'000);
  ASSERT_TRUE(told.has_value());
  EXPECT_TRUE(told->empty());
  EXPECT_FALSE(watch.Look(members, kNow + 3'000).has_value()) << "that has been told";
}

}  // namespace
}  // namespace muster::master
