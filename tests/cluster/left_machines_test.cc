// What a launcher that attaches to a job makes of the machines that it finds, what its roles are
// known by, and what all of it has cost.
#include "cluster/left_machines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "cluster/job_rent.h"
#include "cluster/machine_key.h"
#include "cluster/run_keys.h"
#include "telemetry/file.h"
#include "telemetry/time.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const std::vector<LocalRole> kRoles = {
    {"master", 0}, {"chief", 0}, {"worker", 0}, {"worker", 1}, {"ps", 0}};

Machine One(const std::string& id, Role role, int index, int attempt = 1,
            MachineState state = MachineState::kRunning) {
  Machine machine;
  machine.id = id;
  machine.role = role;
  machine.index = index;
  machine.attempt = attempt;
  machine.state = state;
  machine.place = {"r", "r-a"};
  return machine;
}

std::vector<std::string> IdsOf(const std::vector<Machine>& machines) {
  std::vector<std::string> ids;
  for (const Machine& machine : machines) ids.push_back(machine.id);
  return ids;
}

std::vector<Machine> All() {
  return {One("p", Role::kParameterServer, 0), One("w1", Role::kWorker, 1),
          One("m", Role::kMaster, 0), One("w0", Role::kWorker, 0)};
}

TEST(LeftMachines, AreThereByHost) {
  const LeftMachines left = FindLeftMachines(All(), {}, kRoles);
  EXPECT_THAT(IdsOf(left.by_host), ElementsAre("m", "w0", "w1", "p"));
  EXPECT_TRUE(left.has_master);
  EXPECT_TRUE(left.others_are_workers);
  EXPECT_EQ(left.running, 4u);
  EXPECT_EQ(left.began_ms, 0);
  EXPECT_THAT(left.superseded, IsEmpty());
}

TEST(LeftMachines, AWorkersThatIsGoneHasItsPlaceAndTheIdOfTheBill) {
  std::vector<Machine> listed = All();
  listed[3].state = MachineState::kGone;
  const std::vector<RentedSpan> spans = {
      {.machine = "m", .role = "master", .began_ms = 5},
      {.machine = "other", .role = "worker", .index = 0, .began_ms = 1},
      {.machine = "w0", .role = "worker", .index = 0, .spot = true, .began_ms = 5}};
  const LeftMachines left = FindLeftMachines(listed, spans, kRoles);
  EXPECT_THAT(IdsOf(left.by_host), ElementsAre("m", "w0", "w1", "p"));
  EXPECT_EQ(left.by_host[1].state, MachineState::kGone);
  EXPECT_EQ(left.by_host[1].place, (Place{"r", "r-a"}));
  EXPECT_TRUE(left.by_host[1].spot);
  EXPECT_TRUE(left.others_are_workers);
  EXPECT_EQ(left.running, 3u);
  EXPECT_EQ(left.began_ms, 5);
  EXPECT_THAT(IdsOf(FindLeftMachines(listed, {}, kRoles).by_host), ElementsAre("m", "", "w1", "p"));
}

TEST(LeftMachines, WithoutAServerOrTheMasterThereIsNoJob) {
  std::vector<Machine> listed = All();
  listed[0].state = MachineState::kStopped;
  EXPECT_FALSE(FindLeftMachines(listed, {}, kRoles).others_are_workers);
  EXPECT_TRUE(FindLeftMachines(listed, {}, kRoles).has_master);
  listed.erase(listed.begin() + 2);
  EXPECT_FALSE(FindLeftMachines(listed, {}, kRoles).has_master);
  EXPECT_FALSE(FindLeftMachines({}, {}, kRoles).has_master);
}

// Their launcher was killed after it had another machine, before the first was ended.
TEST(LeftMachines, OfTwoForOneWorkerTheNewerCounts) {
  for (const bool first : {true, false}) {
    std::vector<Machine> listed = All();
    listed.insert(first ? listed.begin() : listed.end(), One("w0b", Role::kWorker, 0, 102));
    const LeftMachines left = FindLeftMachines(listed, {}, kRoles);
    EXPECT_THAT(IdsOf(left.by_host), ElementsAre("m", "w0b", "w1", "p"));
    EXPECT_THAT(IdsOf(left.superseded), ElementsAre("w0"));
    EXPECT_EQ(left.last_attempt, 102);
  }
}

TEST(LeftMachines, TheLastRunsSpansBeganWithItsMaster) {
  const std::vector<RentedSpan> spans = {
      {.machine = "a", .role = "master", .began_ms = 10, .ended_ms = 20},
      {.machine = "b", .role = "worker", .began_ms = 10, .ended_ms = 20},
      {.machine = "c", .role = "master", .began_ms = 30},
      {.machine = "d", .role = "worker", .began_ms = 30, .ended_ms = 35},
      {.machine = "e", .role = "worker", .began_ms = 36}};
  std::vector<std::string> ids;
  for (const RentedSpan& span : SpansOfLastRun(spans)) ids.push_back(span.machine);
  EXPECT_THAT(ids, ElementsAre("c", "d", "e"));
  EXPECT_THAT(SpansOfLastRun({spans[1], spans[4]}), SizeIs(1));
}

class LeftJob : public ::testing::Test {
 protected:
  JobRent::Options Options() {
    return {.job_dir = folder_.path(),
            .max_cost = 7,
            .price = [](Role role) { return role == Role::kMaster ? 120.0 : 60.0; },
            .say = [this](const std::string& line) { said_.push_back(line); }};
  }
  const harness::TemporaryFolder folder_;
  std::vector<std::string> said_;
};

// Two dollars a minute for the master, one for a worker; each begun minute counts.
TEST_F(LeftJob, WhatWasReplacedCountsForTheBudgetOfWhoeverFollowsItLater) {
  const int64_t began = MonotonicMillis() - 150'000;
  const Machine master = One("m", Role::kMaster, 0), lost = One("w", Role::kWorker, 0),
                by = One("x", Role::kWorker, 0, 2);
  {
    JobRent first(Options());
    EXPECT_THAT(first.Begin({master, lost}, began), ElementsAre(0, 1));
    EXPECT_DOUBLE_EQ(first.rent()->bill.Cost(MonotonicMillis()), 3 * 2 + 3 * 1);
    first.NoteLost(lost);
    first.NoteReplaced(lost, by);
  }
  const auto spans = ReadBill(folder_.path());
  ASSERT_TRUE(spans.ok()) << spans.status();
  JobRent later(Options());
  const LeftMachines left =
      FindLeftMachines({master, by}, *spans, {{"master", 0}, {"chief", 0}, {"worker", 0}});
  EXPECT_EQ(left.running, 2u);
  EXPECT_THAT(later.Resume(left, *spans), ElementsAre(0, 2));
  EXPECT_DOUBLE_EQ(later.rent()->bill.Cost(MonotonicMillis()), 3 * 2 + 3 * 1 + 1);
  EXPECT_DOUBLE_EQ(later.rent()->bill.PerHour(), 180);
  EXPECT_DOUBLE_EQ(later.rent()->max_cost, 7);
  later.NoteGivenBack();
  EXPECT_THAT(said_, IsEmpty());
  const auto ended = ReadBill(folder_.path());
  ASSERT_TRUE(ended.ok());
  for (const RentedSpan& span : *ended) EXPECT_NE(span.ended_ms, 0);
}

TEST_F(LeftJob, KeepsWhatItsWorkersAreKnownByUntilItsMachinesAreGone) {
  const RunKeys keys{.token = "secret",
                     .identities = {{"master-0", "a"}, {"worker-1", "b\nc"}, {"ps-0", "d"}}};
  ASSERT_TRUE(KeepRunKeys(folder_.path(), "job", keys).ok());
  const auto found = FindRunKeys(folder_.path(), "job");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->token, "secret");
  EXPECT_THAT(found->identities, ElementsAre(::testing::Pair("worker-1", "b\nc")));
  EXPECT_TRUE(absl::IsNotFound(FindRunKeys(folder_.path(), "another").status()));
  RemoveMachineKey(folder_.path(), "job");
  EXPECT_TRUE(absl::IsNotFound(FindRunKeys(folder_.path(), "job").status()));
  EXPECT_TRUE(std::filesystem::is_empty(folder_.path()));
}

TEST_F(LeftJob, KeysThatDoNotReadAreNotRepeated) {
  const std::string path = folder_.path() + "/job.run_keys";
  for (const char* text :
       {"", "{", "{\"schemaVersion\":1}", "{\"schemaVersion\":2,\"token\":\"k\",\"identities\":{}}",
        "{\"schemaVersion\":1,\"token\":7,\"identities\":{}}",
        "{\"schemaVersion\":1,\"token\":\"\",\"identities\":{}}",
        "{\"schemaVersion\":1,\"token\":\"k\",\"identities\":{\"worker-0\":[]}}"}) {
    ASSERT_TRUE(WriteFileAtomically(path, text).ok());
    EXPECT_EQ(FindRunKeys(folder_.path(), "job").status(),
              absl::DataLossError(path + " does not read"))
        << text;
  }
}

}  // namespace
}  // namespace muster::cluster
