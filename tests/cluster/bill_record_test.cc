// What was rented from when to when, as launchers note it and `launch cost` shows it.
#include "cluster/bill_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "cluster/cost_command.h"
#include "cluster/job_registry.h"
#include "telemetry/file.h"
#include "tests/cluster/said.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kBegan = 1'700'000'000'000, kHour = 3'600'000;

class BillRecordTest : public ::testing::Test {
 protected:
  BillRecordTest() { std::filesystem::create_directory(dir_); }

  Said Run(const std::vector<std::string>& words) {
    return RunSaid(
        words, [&](const CommandContext& context) { return RunCostCommand(context, registry_); });
  }
  void Rent() {
    ASSERT_TRUE(NoteRented(dir_, {{"i-1", "master", 0, false, 0.2, kBegan},
                                  {"i-2", "worker", 0, false, 0.6, kBegan},
                                  {"i-3", "worker", 1, false, 0.6, kBegan}})
                    .ok());
  }

  const harness::TemporaryFolder folder_;
  const std::string dir_ = folder_.path() + "/job", registry_ = folder_.path() + "/jobs";
};

TEST_F(BillRecordTest, AMachineInAnothersPlaceEndsThatOneAlone) {
  const auto span = [](const std::string& machine, int64_t began_ms) {
    return RentedSpan{.machine = machine, .role = "worker", .began_ms = began_ms};
  };
  ASSERT_TRUE(NoteRented(dir_, {span("i-1", kBegan), span("i-2", kBegan)}).ok());
  ASSERT_TRUE(NoteReplaced(dir_, "i-1", span("i-3", kBegan + kHour)).ok());
  const auto spans = ReadBill(dir_);
  ASSERT_TRUE(spans.ok()) << spans.status();
  ASSERT_THAT(*spans, SizeIs(3));
  EXPECT_EQ((*spans)[0].ended_ms, kBegan + kHour);
  EXPECT_EQ((*spans)[1].ended_ms, 0);
  EXPECT_EQ((*spans)[2].machine, "i-3");
  EXPECT_EQ((*spans)[2].ended_ms, 0);
}

TEST_F(BillRecordTest, MachinesAreBilledByTheMinuteUntilTheyAreGivenBack) {
  EXPECT_THAT(*ReadBill(dir_), IsEmpty());
  EXPECT_TRUE(NoteGivenBack(dir_, kBegan).ok()) << "there is nothing";
  Rent();
  auto spans = *ReadBill(dir_);
  ASSERT_THAT(spans, SizeIs(3));
  EXPECT_EQ(spans[2].ended_ms, 0);
  EXPECT_NEAR(CostOf(spans[2], kBegan + kHour - 1), 0.6, 1e-9);
  EXPECT_NEAR(CostOf(spans[2], kBegan + kHour), 0.61, 1e-9) << "a minute more has begun";
  EXPECT_NEAR(CostOf(spans[2], kBegan - 5), 0.01, 1e-9);
  ASSERT_TRUE(NoteGivenBack(dir_, kBegan + kHour - 1).ok());
  // The next run of the job adds to it.
  ASSERT_TRUE(NoteRented(dir_, {{"i-9", "master", 0, true, 0.05, kBegan + 9 * kHour}}).ok());
  ASSERT_TRUE(NoteGivenBack(dir_, kBegan + 10 * kHour - 1).ok());
  spans = *ReadBill(dir_);
  ASSERT_THAT(spans, SizeIs(4));
  EXPECT_EQ(spans[0].ended_ms, kBegan + kHour - 1) << "what has ended stays as it is";
  double usd = 0;
  for (const RentedSpan& span : spans) usd += CostOf(span, kBegan + 99 * kHour);
  EXPECT_NEAR(usd, 0.2 + 2 * 0.6 + 0.05, 1e-9);
}

TEST_F(BillRecordTest, CostIsShownByRole) {
  ASSERT_TRUE(JobRegistry(registry_).Write({"job", dir_, "AWS", kBegan}).ok());
  EXPECT_EQ(Run({"job"}).out, "nothing was rented for job\n");
  Rent();
  EXPECT_THAT(Run({"job"}).out, ContainsRegex("worker +2 .*not given back yet\n"));
  ASSERT_TRUE(NoteGivenBack(dir_, kBegan + kHour - 1).ok());
  const Said said = Run({"job"});
  EXPECT_EQ(said.code, 0) << said.err;
  EXPECT_THAT(said.out, AllOf(ContainsRegex("master +1 +1.00 +0.200 +0.20 "),
                              ContainsRegex("worker +2 +2.00 +0.600 +1.20 +2023-11-14T22:13:20"),
                              ContainsRegex("all +1.40\n"), HasSubstr("aws ce get-cost-and-usage"),
                              HasSubstr(R"("Values":["job"])")));
  EXPECT_EQ(Run({"nobody"}).code, 2);
  EXPECT_EQ(Run({}).code, 2);
}

TEST_F(BillRecordTest, ADamagedBillIsToldAndNeverGuessedFrom) {
  ASSERT_TRUE(JobRegistry(registry_).Write({"job", dir_, "AWS", kBegan}).ok());
  Rent();
  const std::string path = dir_ + "/bill.json", good = *ReadFile(path);
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    std::string text = good;
    const size_t at = random() % text.size();
    if (random() % 2) {
      text.resize(at);
    } else {
      text[at] = static_cast<char>(random());
    }
    ASSERT_TRUE(WriteFileAtomically(path, text).ok());
    const auto spans = ReadBill(dir_);
    if (spans.ok()) {
      for (const RentedSpan& span : *spans) EXPECT_GE(CostOf(span, kBegan + kHour), 0);
      continue;
    }
    EXPECT_EQ(Run({"job"}).code, 2);
    EXPECT_FALSE(NoteGivenBack(dir_, kBegan).ok()) << "it would be overwritten";
  }
  ASSERT_TRUE(WriteFileAtomically(path, "{").ok());
  EXPECT_THAT(Run({"job"}).err, HasSubstr("bill.json"));
}

}  // namespace
}  // namespace muster::cluster
