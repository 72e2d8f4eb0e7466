// A job's machines are all there or none: NodeSet, its journal and every provider that makes
// machines, on a cloud in memory.
#include "cluster/node_set.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "cluster/stopped_machines.h"
#include "tests/cluster/node_set_world.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using harness::TemporaryFolder;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class NodeSetTest : public ::testing::TestWithParam<CloudKind> {
 protected:
  std::unique_ptr<MachineJournal> Journal(const MachineOrder& order) {
    auto journal = MachineJournal::Begin(folder_.path(), HeadOf(GetParam(), order), 0);
    EXPECT_TRUE(journal.ok()) << journal.status();
    return *std::move(journal);
  }
  std::vector<std::string> Journals() { return MachineJournal::Jobs(folder_.path()); }

  const TemporaryFolder folder_;
};

TEST_P(NodeSetTest, AllMachinesRunInOnePlaceByRoleAndIndex) {
  World world(GetParam(), {.room = {{"us-east1-a", 9}}, .appear_ms = 1000, .boot_ms = 30'000});
  const auto provider = world.MakeProvider();
  const MachineOrder order = OrderOf(3, 2);
  ASSERT_TRUE(provider->Check(order).ok());
  const auto journal = Journal(order);
  NodeSet set(*provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  std::vector<std::string> names;
  for (const Machine& machine : *machines) {
    names.push_back(fmt::format("{}-{}", RoleName(machine.role), machine.index));
    EXPECT_EQ(machine.place, (Place{"us-east1", "us-east1-a"}));
    EXPECT_EQ(machine.owner, "me@here");
  }
  EXPECT_THAT(names, ElementsAre("master-0", "worker-0", "worker-1", "worker-2", "ps-0", "ps-1"));
  EXPECT_EQ(world.cloud->Alive(world.now_ms), 6);
  const int64_t before = world.now_ms;
  EXPECT_TRUE(set.GiveBack().ok());
  EXPECT_EQ(world.cloud->Alive(world.now_ms), 0);
  EXPECT_LE(world.now_ms - before, 15'000);
  EXPECT_THAT(Journals(), IsEmpty());
}

TEST_P(NodeSetTest, ZonesWithoutRoomAndRegionsWithoutQuotaAreToldAndPassedBy) {
  // No room in the first zone; in the second one for the master alone; no quota in what is left of
  // the first region after that; room at last in the other region.
  World world(GetParam(), {.room = {{"us-east1-a", 0}, {"us-east1-b", 2}, {"eu-west1-a", 9}},
                           .quota = {{"eu-west1", 9}},
                           .appear_ms = 2000});
  const auto provider = world.MakeProvider();
  const MachineOrder order = OrderOf(2, 1);
  ASSERT_TRUE(provider->Check(order).ok());
  const auto journal = Journal(order);
  NodeSet set(*provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  EXPECT_EQ(machines->front().place.zone, "eu-west1-a");
  ASSERT_THAT(world.said, SizeIs(2));
  EXPECT_THAT(world.said[0], AllOf(HasSubstr("us-east1-a: "), HasSubstr(GetParam().no_room)));
  EXPECT_THAT(world.said[1], HasSubstr("us-east1-b: "));
  // The master of the half gang was gone before the next place was asked.
  EXPECT_EQ(world.cloud->most(), 4);
}

TEST_P(NodeSetTest, ARegionWithoutQuotaIsLeftAtOnce) {
  World world(GetParam(), {.room = {{"us-east1-a", 9}, {"us-east1-b", 9}, {"eu-west1-a", 9}},
                           .quota = {{"us-east1", 0}}});
  const auto provider = world.MakeProvider();
  const MachineOrder order = OrderOf(1, 0);
  ASSERT_TRUE(provider->Check(order).ok());
  const auto journal = Journal(order);
  NodeSet set(*provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  EXPECT_THAT(world.said, ElementsAre(AllOf(HasSubstr("us-east1-a"), HasSubstr(GetParam().no_quota),
                                            HasSubstr(GetParam().ask_for_more))));
}

TEST_P(NodeSetTest, WhereNobodyHasRoomEverythingIsGoneWithinAQuarterOfAMinute) {
  World world(GetParam(), {.room = {{"us-east1-a", 2}}, .appear_ms = 3000});
  const auto provider = world.MakeProvider();
  const MachineOrder order = OrderOf(4, 0);
  ASSERT_TRUE(provider->Check(order).ok());
  const int64_t began = world.now_ms;
  {
    const auto journal = Journal(order);
    NodeSet set(*provider, *journal, world.patience, world.Listen());
    const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
    EXPECT_EQ(machines.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(machines.status().message()), HasSubstr("no place has the machines"));
    EXPECT_EQ(world.cloud->made(), 1);
    EXPECT_EQ(world.cloud->Alive(world.now_ms), 0);
    EXPECT_LE(world.now_ms - began, 15'000);
  }
  EXPECT_THAT(Journals(), IsEmpty());
}

TEST_P(NodeSetTest, ACallThatIsRepeatedMakesNoMachineTwice) {
  World world(GetParam(), {.seed = 12, .room = {{"us-east1-a", 9}}, .throttled = 0.3, .lost = 0.3});
  const auto provider = world.MakeProvider();
  const MachineOrder order = OrderOf(4, 2);
  bool checked = false;
  for (int i = 0; i < 100 && !checked; ++i) checked = provider->Check(order).ok();
  ASSERT_TRUE(checked);
  const auto journal = Journal(order);
  NodeSet set(*provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  EXPECT_EQ(world.cloud->made(), 7);
  EXPECT_GT(std::ranges::count(world.cloud->asked, GetParam().create), 4) << "nothing was repeated";
}

TEST_P(NodeSetTest, AMachineThatIsTakenAwayAgainSendsAllToTheNextPlace) {
  int moved = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(GetParam(), {.seed = seed,
                             .room = {{"us-east1-a", 9}, {"us-east1-b", 9}, {"eu-west1-a", 9}},
                             .boot_ms = 5000,
                             .taken = 0.1});
    const auto provider = world.MakeProvider();
    const MachineOrder order = OrderOf(2, 0);
    ASSERT_TRUE(provider->Check(order).ok());
    const auto journal = Journal(order);
    NodeSet set(*provider, *journal, world.patience, world.Listen());
    const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
    ASSERT_TRUE(machines.ok()) << machines.status();
    EXPECT_THAT(*machines, SizeIs(3));
    EXPECT_LE(world.cloud->most(), 3) << "two sets at once";
    if (world.said.empty()) continue;
    ++moved;
    EXPECT_THAT(world.said[0], HasSubstr("was taken away"));
    EXPECT_NE(machines->front().place.zone, "us-east1-a");
  }
  EXPECT_GT(moved, 0);
}

TEST_P(NodeSetTest, WorkersMayBeSpotAndGoWhereThereIsRoomForThem) {
  World world(GetParam(), {.room = {{"us-east1-a", 9}, {"us-east1-b", 9}, {"eu-west1-a", 9}},
                           .spot_room = {{"us-east1-a", 1}}});
  const auto provider = world.MakeProvider();
  const MachineOrder order = SpotWorkers(OrderOf(2, 1));
  ASSERT_TRUE(provider->Check(order).ok());
  const auto journal = Journal(order);
  NodeSet set(*provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  for (const Machine& machine : *machines) {
    EXPECT_EQ(machine.spot, machine.role == Role::kWorker) << RoleName(machine.role);
    EXPECT_EQ(machine.place.zone, "us-east1-b");
  }
  EXPECT_EQ(world.cloud->AliveSpot(), 2);
  EXPECT_THAT(world.said,
              ElementsAre(AllOf(HasSubstr("us-east1-a"), HasSubstr(GetParam().no_room))));
}

// Asks for worker 1 of `machines` again, in the place of the one that is there or was.
MachineOrder OrderOfOne(MachineOrder order, const std::vector<Machine>& machines) {
  order.place = machines.front().place;
  order.attempt = machines.front().attempt + 1;
  std::erase_if(order.groups,
                [](const MachineGroup& group) { return group.role != Role::kWorker; });
  order.groups[0].count = 1;
  order.groups[0].first_index = 1;
  return order;
}

TEST_P(NodeSetTest, OneMachineIsReplacedAndTheOthersAreLeftAlone) {
  World world(GetParam(), {.room = {{"us-east1-a", 4}, {"us-east1-b", 1}, {"eu-west1-a", 9}},
                           .appear_ms = 2000,
                           .boot_ms = 20'000});
  const auto provider = world.MakeProvider();
  const MachineOrder order = SpotWorkers(OrderOf(2, 1));
  ASSERT_TRUE(provider->Check(order).ok());
  const auto journal = Journal(order);
  NodeSet set(*provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  const std::string taken = (*machines)[2].id;
  // It is still there: its zone has no room for another one.
  const MachineOrder one = OrderOfOne(order, *machines);
  const auto made = set.CreateOne(one, 600'000);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->role, Role::kWorker);
  EXPECT_EQ(made->index, 1);
  EXPECT_TRUE(made->spot);
  EXPECT_EQ(made->place.zone, "us-east1-b");
  EXPECT_EQ(made->state, MachineState::kRunning);
  EXPECT_THAT(world.said, ElementsAre(HasSubstr("us-east1-a: ")));
  EXPECT_EQ(world.cloud->Alive(world.now_ms), 5);
  EXPECT_TRUE(provider->End((*machines)[2]).ok());
  EXPECT_EQ(world.cloud->Alive(world.now_ms), 4);
  const auto listed = provider->List("job");
  ASSERT_TRUE(listed.ok()) << listed.status();
  for (const Machine& machine : *listed) {
    EXPECT_EQ(machine.id == taken, machine.state == MachineState::kGone) << machine.id;
  }
  EXPECT_TRUE(set.GiveBack().ok());
  EXPECT_EQ(world.cloud->Alive(world.now_ms), 0);
  EXPECT_THAT(Journals(), IsEmpty());
}

TEST_P(NodeSetTest, WhereNoOtherMachineIsToBeHadNothingOfItIsLeftAndTheOthersStay) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    World world(GetParam(), {.seed = seed,
                             .room = {{"us-east1-a", 9}, {"us-east1-b", 9}, {"eu-west1-a", 9}},
                             .appear_ms = 3000,
                             .boot_ms = 1000});
    const auto provider = world.MakeProvider();
    const MachineOrder order = OrderOf(2, 0);
    ASSERT_TRUE(provider->Check(order).ok());
    const auto journal = Journal(order);
    NodeSet set(*provider, *journal, world.patience, world.Listen());
    const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
    ASSERT_TRUE(machines.ok()) << machines.status();
    // Whatever is made from now on is taken away again before it runs, or hardly anything answers.
    world.cloud->set_taken(1);
    if (seed % 2 == 0) world.cloud->set_lost(0.3);
    const auto made = set.CreateOne(OrderOfOne(order, *machines), 600'000);
    EXPECT_FALSE(made.ok());
    (void)world.patience.pause(60'000);
    EXPECT_EQ(world.cloud->Alive(world.now_ms), 3);
    EXPECT_LE(world.cloud->most(), 4) << "one at a time";
  }
}

TEST(SpotNodeSet, TheCheapestZoneOfARegionComesFirstOnAws) {
  World world(kCloudKinds[0],
              {.room = {{"us-east1-a", 9}, {"us-east1-b", 9}, {"us-east1-c", 9}, {"eu-west1-a", 9}},
               .spot_prices = {{"us-east1-a", 0.3}, {"us-east1-c", 0.2}, {"eu-west1-a", 0.1}}});
  const auto provider = world.MakeProvider();
  const auto zones = [&](const MachineOrder& order) {
    EXPECT_TRUE(provider->Check(order).ok());
    std::vector<std::string> names;
    for (const Place& place : provider->Places()) names.push_back(place.zone);
    return names;
  };
  EXPECT_THAT(zones(OrderOf(2, 0)),
              ElementsAre("us-east1-a", "us-east1-b", "us-east1-c", "eu-west1-a"));
  // Regions stay in the order of the job file; a zone without a price comes last of its region's.
  EXPECT_THAT(zones(SpotWorkers(OrderOf(2, 0))),
              ElementsAre("us-east1-c", "us-east1-a", "us-east1-b", "eu-west1-a"));
}

TEST_P(NodeSetTest, AJobOfThisNameElsewhereIsLeftAlone) {
  World world(GetParam(), {.room = {{"us-east1-a", 9}}});
  const auto provider = world.MakeProvider();
  const MachineOrder order = OrderOf(1, 0);
  ASSERT_TRUE(provider->Check(order).ok());
  const auto journal = Journal(order);
  NodeSet set(*provider, *journal, world.patience, world.Listen());
  ASSERT_TRUE(set.Create({.order = order, .max_wait_ms = 600'000}).ok());
  {
    const TemporaryFolder other_host;
    const MachineOrder same = OrderOf(1, 0, "mu2");
    const auto second = MachineJournal::Begin(other_host.path(), HeadOf(GetParam(), same), 0);
    NodeSet other(*provider, **second, world.patience, world.Listen());
    const auto refused = other.Create({.order = same, .max_wait_ms = 600'000});
    EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(refused.status().message()),
                AllOf(HasSubstr("me@here"), HasSubstr("--job-id")));
  }
  EXPECT_EQ(world.cloud->Alive(world.now_ms), 2);
}

TEST_P(NodeSetTest, MachinesOfAJobThatWasLeftAreNobodysUntilItsTimeIsOverOrTheyAreGone) {
  World world(GetParam(), {.room = {{"us-east1-a", 9}}});
  const auto provider = world.MakeProvider();
  const MachineOrder order = OrderOf(1, 0);
  ASSERT_TRUE(provider->Check(order).ok());
  const auto journal = Journal(order);
  const auto is_left = [&] { return *IsLeft(*provider, *journal, world.now_ms); };
  {
    NodeSet set(*provider, *journal, world.patience, world.Listen());
    ASSERT_TRUE(set.Create({.order = order, .max_wait_ms = 600'000}).ok());
    EXPECT_FALSE(is_left()) << "nobody has said so";
    ASSERT_TRUE(journal->Leaving(world.now_ms + 100'000).ok());
    set.Leave();
  }
  EXPECT_EQ(world.cloud->Alive(world.now_ms), 2);
  EXPECT_TRUE(is_left());
  EXPECT_THAT(LeftText(*journal), AllOf(HasSubstr("launch attach job"), HasSubstr("1970-01-01")));
  const int64_t before = world.now_ms;
  world.now_ms += 100'000;
  EXPECT_FALSE(is_left());
  world.now_ms = before;
  EXPECT_TRUE(provider->Destroy("job").ok());
  EXPECT_FALSE(is_left());
}

TEST_P(NodeSetTest, MachinesStopOnRequestWithWhatWouldDeleteThemButNotThoseThatAreSpot) {
  World world(GetParam(), {.seed = 3, .room = {{"us-east1-a", 9}}, .throttled = 0.2, .lost = 0.2});
  const auto provider = world.MakeProvider();
  const MachineOrder order = SpotWorkers(OrderOf(2, 1));
  ASSERT_TRUE(provider->Check(order).ok());
  {
    const auto journal = Journal(order);
    NodeSet set(*provider, *journal, world.patience, world.Listen());
    ASSERT_TRUE(set.Create({.order = order, .max_wait_ms = 600'000}).ok());
    const absl::Status stopped = StopMachines(*provider, *journal, "$1 a month", world.patience);
    ASSERT_TRUE(stopped.ok()) << stopped;
    set.Leave();
  }
  EXPECT_EQ(world.cloud->Stopped(), 2) << "the master's and the server's";
  EXPECT_EQ(world.cloud->Alive(world.now_ms), 2) << "with them";
  EXPECT_EQ(world.cloud->Entries(), 0) << "nothing deletes them later";
  // Whoever comes later knows of it, and can give them back.
  const auto journal = MachineJournal::TakeOver(folder_.path(), "job");
  ASSERT_TRUE(journal.ok()) << journal.status();
  EXPECT_GT((*journal)->stopped_ms(), 0);
  EXPECT_THAT(StoppedText(**journal),
              AllOf(HasSubstr("1970-01-01T"), HasSubstr("$1 a month; launch gc --stopped job ")));
  ASSERT_TRUE(GiveBackMachines(*provider, **journal, world.patience).ok());
  EXPECT_EQ(world.cloud->Alive(world.now_ms), 0);
}

// They are a colleague's, or of a launch from another machine.
TEST_P(NodeSetTest, MachinesOfAnothersJobOfThisNameAreLeftAlone) {
  World world(GetParam(), {.room = {{"us-east1-a", 9}}});
  const auto provider = world.MakeProvider();
  MachineOrder order = OrderOf(1, 0);
  ASSERT_TRUE(provider->Check(order).ok());
  order.owner = "she@there";
  const auto journal = Journal(order);
  NodeSet hers(*provider, *journal, world.patience, world.Listen());
  ASSERT_TRUE(hers.Create({.order = order, .max_wait_ms = 600'000}).ok());
  const TemporaryFolder here;
  const auto begin = [&] {
    return *MachineJournal::Begin(here.path(), HeadOf(GetParam(), OrderOf(1, 0, "mu2")), 0);
  };
  {
    const auto mine = begin();
    NodeSet set(*provider, *mine, world.patience, world.Listen());
    const auto machines = set.Create({.order = OrderOf(1, 0, "mu2"), .max_wait_ms = 600'000});
    EXPECT_THAT(std::string(machines.status().message()),
                AllOf(HasSubstr("2 machines of a job of this name already, of she@there"),
                      HasSubstr("--job-id")));
  }
  EXPECT_THAT(MachineJournal::Jobs(here.path()), IsEmpty()) << "who comes later takes hers";
  // Killed before it had looked.
  begin().reset();
  const auto left = MachineJournal::TakeOver(here.path(), "job");
  ASSERT_TRUE(left.ok()) << left.status();
  EXPECT_TRUE(GiveBackMachines(*provider, **left, world.patience).ok());
  EXPECT_THAT(MachineJournal::Jobs(here.path()), IsEmpty());
  EXPECT_EQ(world.cloud->Alive(world.now_ms), 2);
}

TEST_P(NodeSetTest, TheUserMayHaveEnoughOfWaiting) {
  World world(GetParam(), {.room = {{"us-east1-a", 9}}, .boot_ms = 200'000});
  const auto provider = world.MakeProvider();
  const MachineOrder order = OrderOf(4, 0);
  ASSERT_TRUE(provider->Check(order).ok());
  world.interrupt_ms = world.now_ms + 20'000;
  const auto journal = Journal(order);
  NodeSet set(*provider, *journal, world.patience, world.Listen());
  const auto machines = set.Create({.order = order, .max_wait_ms = 600'000});
  ASSERT_TRUE(machines.ok()) << machines.status();
  EXPECT_THAT(*machines, IsEmpty());
  EXPECT_EQ(world.cloud->Alive(world.now_ms), 0);
}

INSTANTIATE_TEST_SUITE_P(Clouds, NodeSetTest, ::testing::ValuesIn(kCloudKinds),
                         [](const auto& info) {
                           return Cluster::Provider_Name(info.param.provider);
                         });

}  // namespace
}  // namespace muster::cluster
