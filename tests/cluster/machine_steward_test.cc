// What becomes of a worker's machine that is lost: the provider is asked first, and another is
// asked for in a process of its own; on a cloud in memory.
#include "cluster/machine_steward.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "cluster/kubernetes.h"
#include "telemetry/file.h"
#include "telemetry/time.h"
#include "tests/cluster/node_set_world.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

// A master, two workers and a server, that run; the workers' machines are spot where nothing else
// is said.
class MachineStewardTest : public ::testing::TestWithParam<CloudKind> {
 protected:
  void Begin(FakeCloudOptions options, MachineOrder order = SpotWorkers(OrderOf(2, 1))) {
    order_ = std::move(order);
    world_ = std::make_unique<World>(GetParam(), std::move(options));
    provider_ = world_->MakeProvider();
    ASSERT_TRUE(provider_->Check(order_).ok());
    journal_ = *MachineJournal::Begin(folder_.path(), HeadOf(GetParam(), order_), 0);
    set_ = std::make_unique<NodeSet>(*provider_, *journal_, world_->patience, world_->Listen());
    auto machines = set_->Create({.order = order_, .max_wait_ms = 600'000});
    ASSERT_TRUE(machines.ok()) << machines.status();
    machines_ = *std::move(machines);
    for (size_t i = 0; i < machines_.size(); ++i) {
      bills_.push_back(rent_->bill.Begin(1, MonotonicMillis()));
    }
    MakeSteward(Options());
  }
  MachineSteward::Options Options() { return Options(*provider_, world_->patience); }
  MachineSteward::Options Options(Provider& provider, const Patience& patience) {
    const auto reach = [](const Machine& machine) -> absl::StatusOr<RunHost> {
      RunHost way;
      way.link.name = machine.id;
      return way;
    };
    return {.provider = provider,
            .journal = *journal_,
            .patience = patience,
            .order = order_,
            .keep = {},
            .rent = rent_,
            .price = [](Role) { return 1.0; },
            .reach = reach,
            .on_lost = [this](const Machine& machine) { lost_.push_back(machine.id); }};
  }
  void MakeSteward(MachineSteward::Options options) {
    steward_ = std::make_unique<MachineSteward>(std::move(options), machines_, bills_);
  }
  // Until it has said so many lines, and what it has asked for is there or is not.
  void Await(size_t lines) {
    while (said_.size() < lines || steward_->IsAsking()) {
      std::vector<pollfd> fds;
      steward_->Watch(&fds);
      poll(fds.data(), fds.size(), 20);
      steward_->Tick();
      for (std::string& line : steward_->TakeMessages()) said_.push_back(std::move(line));
      for (auto& found : steward_->TakeFound()) found_.push_back(std::move(found));
    }
  }

  const harness::TemporaryFolder folder_;
  MachineOrder order_;
  const std::shared_ptr<Rent> rent_ = std::make_shared<Rent>();
  std::unique_ptr<World> world_;
  std::unique_ptr<Provider> provider_;
  std::unique_ptr<MachineJournal> journal_;
  std::unique_ptr<NodeSet> set_;
  std::vector<Machine> machines_;
  std::vector<size_t> bills_;
  std::unique_ptr<MachineSteward> steward_;
  std::vector<std::string> said_, lost_;
  std::vector<std::pair<size_t, RunHost>> found_;
};

TEST_P(MachineStewardTest, OnlyWorkersAreReplacedSpotOrNot) {
  for (const bool spot : {true, false}) {
    Begin({.room = {{"us-east1-a", 9}}}, spot ? SpotWorkers(OrderOf(2, 1)) : OrderOf(2, 1));
    std::vector<bool> replaces;
    for (size_t i = 0; i < machines_.size(); ++i) replaces.push_back(steward_->Replaces(i));
    EXPECT_THAT(replaces, ElementsAre(false, true, true, false));
    ASSERT_TRUE(set_->GiveBack().ok());
  }
}

TEST_P(MachineStewardTest, WhereOneMachineMoreCannotBeHadNoneIsReplaced) {
  Begin({.room = {{"us-east1-a", 9}}});
  KubernetesProvider pods({}, world_->tools, {}, "");
  const MachineSteward steward(Options(pods, world_->patience), machines_, bills_);
  EXPECT_FALSE(steward.Replaces(1));
}

// Master, worker, worker, server.
TEST_P(MachineStewardTest, OfAJobThatHasEndedEveryMachineThatIsGoneIsReplaced) {
  Begin({.room = {{"us-east1-a", 9}}});
  const auto say = [this](const std::string& line) { said_.push_back(line); };
  EXPECT_FALSE(steward_->Recover(say)) << "nothing was lost";
  EXPECT_THAT(said_, IsEmpty());
  world_->cloud->TakeAway(machines_[0].id);
  world_->cloud->TakeAway(machines_[3].id);
  steward_->Missed(3);
  ASSERT_TRUE(steward_->Recover(say));
  EXPECT_THAT(said_, UnorderedElementsAre(HasSubstr("master-0: its machine is gone ("),
                                          HasSubstr("master-0: another machine runs in us-east1-a"),
                                          HasSubstr("ps-0: its machine is gone ("),
                                          HasSubstr("ps-0: another machine runs in us-east1-a")));
  for (const size_t host : {0, 1, 2, 3}) {
    SCOPED_TRACE(host);
    const Machine& now = steward_->machines()[host];
    EXPECT_EQ(now.id == machines_[host].id, host == 1 || host == 2);
    EXPECT_EQ(now.role, machines_[host].role);
    EXPECT_EQ(now.index, machines_[host].index);
    EXPECT_EQ(now.state, MachineState::kRunning);
  }
  EXPECT_DOUBLE_EQ(rent_->bill.PerHour(), 4);
}

TEST_P(MachineStewardTest, OneThatWasMissedAndRunsIsTriedAgain) {
  Begin({.room = {{"us-east1-a", 9}}});
  steward_->Missed(0);
  EXPECT_TRUE(steward_->Recover([this](const std::string& line) { said_.push_back(line); }));
  EXPECT_THAT(said_, ElementsAre(HasSubstr("master-0: its machine runs (")));
  EXPECT_EQ(steward_->machines()[0].id, machines_[0].id);
}

TEST_P(MachineStewardTest, TheUserMayHaveEnoughOfWaitingForAnotherMachine) {
  Begin({.room = {{"us-east1-a", 9}}});
  world_->cloud->TakeAway(machines_[3].id);
  Patience patience = world_->patience;
  patience.pause = [](int64_t) { return false; };
  MachineSteward steward(Options(*provider_, patience), machines_, bills_);
  EXPECT_FALSE(steward.Recover([](const std::string&) {}));
}

TEST_P(MachineStewardTest, AMachineThatIsGoneIsReplacedByAnotherOfItsPlace) {
  Begin({.room = {{"us-east1-a", 9}}});
  EXPECT_DOUBLE_EQ(rent_->bill.PerHour(), 4);
  world_->cloud->TakeAway(machines_[2].id);
  steward_->Replace(2, /*ends=*/false);
  steward_->Replace(2, /*ends=*/false);
  Await(2);
  EXPECT_THAT(said_, ElementsAre(AllOf(HasSubstr("worker-1: its machine is gone ("),
                                       HasSubstr(machines_[2].id)),
                                 HasSubstr("worker-1: another machine runs in us-east1-a")));
  EXPECT_THAT(lost_, ElementsAre(machines_[2].id));
  ASSERT_THAT(found_, SizeIs(1));
  EXPECT_EQ(found_[0].first, 2u);
  EXPECT_NE(found_[0].second.link.name, machines_[2].id);
  // Before it was asked for, on disk.
  const std::string journal = *ReadFile(folder_.path() + "/job.jsonl");
  const std::string name =
      GetParam().provider == Cluster::GCP ? found_[0].second.link.name : "mu1-2-worker";
  EXPECT_THAT(journal, HasSubstr(name));
  EXPECT_DOUBLE_EQ(rent_->bill.PerHour(), 4) << "one has ended, one has begun";
}

TEST_P(MachineStewardTest, AnotherMachineIsPreparedBeforeItIsUsed) {
  Begin({.room = {{"us-east1-a", 9}}});
  MachineSteward::Options options = Options();
  options.prepare = [](const Machine& machine, const Say& say) {
    say(fmt::format("preparing {} {}", RoleName(machine.role), machine.index));
    return absl::OkStatus();
  };
  MakeSteward(std::move(options));
  world_->cloud->TakeAway(machines_[2].id);
  steward_->Replace(2, /*ends=*/false);
  Await(3);
  EXPECT_THAT(said_, ElementsAre(HasSubstr("worker-1: its machine is gone ("),
                                 HasSubstr("worker-1: another machine runs in us-east1-a"),
                                 "worker-1: preparing worker 1"));
  ASSERT_THAT(found_, SizeIs(1));
  EXPECT_EQ(found_[0].second.link.name, steward_->machines()[2].id);
}

TEST_P(MachineStewardTest, OneThatWillNotDoIsEndedAndTheJobGoesOnWithout) {
  Begin({.room = {{"us-east1-a", 9}}});
  MachineSteward::Options options = Options();
  options.prepare = [](const Machine&, const Say&) {
    return absl::FailedPreconditionError("it has no driver");
  };
  MakeSteward(std::move(options));
  world_->cloud->TakeAway(machines_[2].id);
  steward_->Replace(2, /*ends=*/false);
  Await(3);
  EXPECT_EQ(said_[2],
            "worker-1: it has no driver; its machine is ended, and the job goes on without it");
  EXPECT_DOUBLE_EQ(rent_->bill.PerHour(), 3);
  ASSERT_THAT(lost_, SizeIs(2));
  EXPECT_EQ(lost_[1], steward_->machines()[2].id);
  // Nobody asks for more of them.
  for (int i = 0; i < 50; ++i) {
    poll(nullptr, 0, 10);
    steward_->Tick();
  }
  EXPECT_THAT(steward_->TakeMessages(), IsEmpty());
  EXPECT_THAT(found_, IsEmpty());
  EXPECT_FALSE(steward_->IsAsking());
}

TEST_P(MachineStewardTest, OneThatIsNotReachedIsEndedAndAnotherIsAskedForLater) {
  Begin({.room = {{"us-east1-a", 9}}});
  MachineSteward::Options options = Options();
  options.prepare = [tried = folder_.path() + "/tried"](const Machine&, const Say&) {
    const bool second = access(tried.c_str(), F_OK) == 0;
    EXPECT_TRUE(WriteFileAtomically(tried, "").ok());
    return second ? absl::OkStatus() : absl::UnavailableError("host worker 1: no route");
  };
  options.again_ms = 100;
  MakeSteward(std::move(options));
  world_->cloud->TakeAway(machines_[2].id);
  steward_->Replace(2, /*ends=*/false);
  Await(4);
  EXPECT_THAT(said_,
              ElementsAre(HasSubstr("its machine is gone"), HasSubstr("another machine"),
                          HasSubstr("no other machine: host worker 1: no route; asked again"),
                          HasSubstr("worker-1: another machine runs in us-east1-a")));
  EXPECT_DOUBLE_EQ(rent_->bill.PerHour(), 4);
  EXPECT_THAT(lost_, SizeIs(2));
}

TEST_P(MachineStewardTest, OneThatIsNotSpotIsReplacedByOneThatIsNot) {
  Begin({.room = {{"us-east1-a", 9}}, .spot_room = {{"us-east1-a", 0}}}, OrderOf(2, 1));
  world_->cloud->TakeAway(machines_[1].id);
  steward_->Replace(1, /*ends=*/false);
  Await(2);
  EXPECT_THAT(said_[1], HasSubstr("worker-0: another machine runs in us-east1-a"));
}

TEST_P(MachineStewardTest, WhatAnotherMachineCouldNotHelpAnyMoreIsNotAskedFor) {
  for (const bool by_budget : {true, false}) {
    SCOPED_TRACE(by_budget ? "budget" : "running time");
    said_.clear();
    bills_.clear();
    Begin({.room = {{"us-east1-a", 9}}}, OrderOf(2, 1));
    MachineSteward::Options options = Options();
    // Four minutes, of which a part is for the end.
    rent_->max_cost = by_budget ? rent_->bill.PerHour() / 60 * 4 : 0;
    options.max_running_ms = by_budget ? 0 : 200'000;
    MakeSteward(std::move(options));
    world_->cloud->TakeAway(machines_[2].id);
    steward_->Replace(2, /*ends=*/false);
    Await(2);
    EXPECT_THAT(said_, ElementsAre(HasSubstr("worker-1: its machine is gone"),
                                   AllOf(HasSubstr("worker-1: no other machine is asked for: the "
                                                   "job ends by 20"),
                                         HasSubstr("at the latest"))));
    EXPECT_THAT(found_, SizeIs(0));
    EXPECT_THAT(*ReadFile(folder_.path() + "/job.jsonl"), Not(HasSubstr("mu1-2-")));
    ASSERT_TRUE(set_->GiveBack().ok());
  }
}

TEST_P(MachineStewardTest, OneThatRunsAndIsNeverReachedIsEndedAndReplaced) {
  Begin({.room = {{"us-east1-a", 9}}});
  MachineSteward::Options options = Options();
  options.silence_ms = 1;
  MakeSteward(std::move(options));
  steward_->Replace(1, /*ends=*/false);
  poll(nullptr, 0, 5);
  Await(2);
  EXPECT_THAT(said_, ElementsAre(AllOf(HasSubstr("worker-0: its machine runs ("),
                                       HasSubstr("and was not reached for 0 s: it is ended")),
                                 HasSubstr("worker-0: another machine runs in us-east1-a")));
  ASSERT_THAT(found_, SizeIs(1));
  EXPECT_NE(found_[0].second.link.name, machines_[1].id);
}

// As a launcher has it that attaches to a job: it was not there when the machine went, and has not
// asked the provider for its places.
TEST_P(MachineStewardTest, OneThatWasGoneBeforeIsReplacedToo) {
  Begin({.room = {{"us-east1-a", 9}}});
  const auto fresh = world_->MakeProvider();
  machines_[1].id = "";
  machines_[1].place = machines_[0].place;
  machines_[1].state = MachineState::kGone;
  MachineOrder order = order_;
  order.run = "mu9";
  const MachineSteward::Options before = Options();
  steward_ = std::make_unique<MachineSteward>(MachineSteward::Options{.provider = *fresh,
                                                                      .checked = false,
                                                                      .journal = *journal_,
                                                                      .patience = world_->patience,
                                                                      .order = order,
                                                                      .keep = {},
                                                                      .rent = rent_,
                                                                      .price = before.price,
                                                                      .reach = before.reach},
                                              machines_, bills_);
  steward_->Replace(1, /*ends=*/false);
  Await(2);
  EXPECT_THAT(said_, ElementsAre("worker-0: its machine is gone",
                                 HasSubstr("worker-0: another machine runs in us-east1-a")));
  EXPECT_THAT(found_, SizeIs(1));
  EXPECT_EQ(steward_->machines()[1].state, MachineState::kRunning) << "should the job run again";
}

TEST_P(MachineStewardTest, OneThatIsToEndIsReplacedWhileItIsStillThere) {
  Begin({.room = {{"us-east1-a", 9}}});
  steward_->Replace(1, /*ends=*/true);
  Await(1);
  ASSERT_THAT(found_, SizeIs(1));
  EXPECT_NE(found_[0].second.link.name, machines_[1].id);
}

TEST_P(MachineStewardTest, OneThatTheProviderSaysRunsIsTriedAgainAndNotReplaced) {
  Begin({.room = {{"us-east1-a", 9}}});
  steward_->Replace(1, /*ends=*/false);
  Await(1);
  EXPECT_THAT(said_, ElementsAre(AllOf(HasSubstr("worker-0: its machine runs"),
                                       HasSubstr(machines_[1].id))));
  ASSERT_THAT(found_, SizeIs(1));
  EXPECT_EQ(found_[0].second.link.name, machines_[1].id);
  steward_->Reached(1);
  EXPECT_THAT(*ReadFile(folder_.path() + "/job.jsonl"), Not(HasSubstr("mu1-2-")));
}

TEST_P(MachineStewardTest, WhereTheProviderIsSilentTooNothingIsGivenUp) {
  Begin({.room = {{"us-east1-a", 9}}});
  world_->cloud->set_lost(1);
  steward_->Replace(1, /*ends=*/false);
  Await(1);
  EXPECT_THAT(said_, ElementsAre(HasSubstr("worker-0: what became of its machine is not known: ")));
  EXPECT_THAT(found_, SizeIs(0));
  world_->cloud->set_lost(0);
}

TEST_P(MachineStewardTest, WhereThereIsNoRoomTheUserHearsWhyAndTheOthersStay) {
  Begin({.room = {{"us-east1-a", 4}, {"eu-west1-a", 9}}});
  steward_->Replace(1, /*ends=*/true);
  Await(2);
  EXPECT_THAT(said_,
              ElementsAre(AllOf(HasSubstr("worker-0: us-east1-a: "), HasSubstr(GetParam().no_room)),
                          AllOf(HasSubstr("worker-0: no other machine: "),
                                HasSubstr("asked again in 5 min"))));
  EXPECT_EQ(world_->cloud->Alive(world_->now_ms), 4);
}

INSTANTIATE_TEST_SUITE_P(Clouds, MachineStewardTest, ::testing::ValuesIn(kCloudKinds),
                         [](const auto& info) {
                           return Cluster::Provider_Name(info.param.provider);
                         });

}  // namespace
}  // namespace muster::cluster
