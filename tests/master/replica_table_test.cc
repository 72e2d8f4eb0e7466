#include "master/replica_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::master {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const std::optional<absl::Status> kGoesOn;

Member MemberOf(RoleId::Kind kind, int index, int64_t pid) {
  Member member;
  member.role = {kind, index};
  member.state = Member::State::kReady;
  member.pid = pid;
  member.host = "host-" + std::to_string(pid);
  member.device = "device of " + std::to_string(pid);
  member.last_seen_ms = pid;
  return member;
}

std::vector<Member> OneOfEach() {
  std::vector<Member> members = {MemberOf(RoleId::Kind::kChief, 0, 11),
                                 MemberOf(RoleId::Kind::kWorker, 0, 12),
                                 MemberOf(RoleId::Kind::kServer, 0, 13)};
  members[0].leases = {0, 1};
  members[0].clock = 7;
  members[1].leases = {2};
  members[1].clock = 6;
  return members;
}

TEST(ReplicaTable, TheChiefStandsInTheMastersEntry) {
  const auto replicas = ReplicaTable({"here", 10}, OneOfEach(), kGoesOn, /*now_ms=*/99);
  ASSERT_EQ(replicas.size(), 3u);
  EXPECT_EQ(replicas[0].role, "master");
  EXPECT_THAT(replicas[0].pids, ElementsAre(10, 11));
  EXPECT_EQ(replicas[0].state, "READY");
  EXPECT_EQ(replicas[0].host, "here");
  EXPECT_EQ(replicas[0].device, "device of 11");
  EXPECT_EQ(replicas[0].last_seen_ms, 99);
  EXPECT_THAT(replicas[0].leases, ElementsAre(0, 1));
  EXPECT_EQ(replicas[0].step, 7);
}

TEST(ReplicaTable, WorkersAndServersFollow) {
  const auto replicas = ReplicaTable({"here", 10}, OneOfEach(), kGoesOn, 99);
  ASSERT_EQ(replicas.size(), 3u);
  EXPECT_EQ(replicas[1].role, "worker");
  EXPECT_THAT(replicas[1].pids, ElementsAre(12));
  EXPECT_EQ(replicas[1].host, "host-12");
  EXPECT_EQ(replicas[1].last_seen_ms, 12);
  EXPECT_THAT(replicas[1].leases, ElementsAre(2));
  EXPECT_EQ(replicas[1].step, 6);
  EXPECT_EQ(replicas[2].role, "ps");
  EXPECT_THAT(replicas[2].leases, IsEmpty());
}

TEST(ReplicaTable, OneProcessIsOneEntryWithOnePid) {
  std::vector<Member> members = OneOfEach();
  members.erase(members.begin() + 1);
  members[0].pid = members[1].pid = 10;
  const auto replicas =
      ReplicaTable({"here", 10, /*hosts_server=*/true}, members, kGoesOn, /*now_ms=*/99);
  ASSERT_EQ(replicas.size(), 1u);
  EXPECT_THAT(replicas[0].pids, ElementsAre(10));
}

TEST(ReplicaTable, EachProcessShowsItsMetricsOnce) {
  std::vector<Member> members = OneOfEach();
  members[0].metrics_address = "chief's";
  members[2].metrics_address = "server's";
  auto replicas = ReplicaTable({"here", 10, false, "master's"}, members, kGoesOn, 99);
  EXPECT_THAT(replicas[0].metrics, ElementsAre("master's", "chief's"));
  EXPECT_THAT(replicas[1].metrics, IsEmpty());
  EXPECT_THAT(replicas[2].metrics, ElementsAre("server's"));
  members[0].metrics_address = "master's";
  replicas = ReplicaTable({"here", 10, false, "master's"}, members, kGoesOn, 99);
  EXPECT_THAT(replicas[0].metrics, ElementsAre("master's"));
}

TEST(ReplicaTable, WhoHasNotRegisteredHasNoPid) {
  const auto replicas =
      ReplicaTable({"here", 10}, {Member{{RoleId::Kind::kWorker, 0}}}, kGoesOn, /*now_ms=*/99);
  EXPECT_THAT(replicas.at(1).pids, IsEmpty());
  EXPECT_EQ(replicas.at(1).state, "EXPECTED");
}

TEST(ReplicaTable, AfterTheRunTheMasterHasFinishedAndAfterSuccessEverybodyWhoWasThere) {
  std::vector<Member> members = OneOfEach();
  members[2].state = Member::State::kLost;
  members.push_back(MemberOf(RoleId::Kind::kWorker, 1, 14));
  members[3].state = Member::State::kLeft;
  const auto states = [&members](const absl::Status& ended) {
    std::vector<std::string> states;
    for (const auto& replica : ReplicaTable({"here", 10}, members, ended, 99)) {
      states.push_back(replica.state);
    }
    return states;
  };
  EXPECT_THAT(states(absl::UnavailableError("ps-0 is gone")),
              ElementsAre("FINISHED", "READY", "LOST", "LEFT"));
  EXPECT_THAT(states(absl::OkStatus()), ElementsAre("FINISHED", "FINISHED", "LOST", "LEFT"));
}

}  // namespace
}  // namespace muster::master
