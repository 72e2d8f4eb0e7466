#include "master/history.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster::master {
namespace {

class HistoryTest : public ::testing::Test {
 protected:
  std::unique_ptr<HistoryWriter> Open(int64_t start_step) {
    auto writer = HistoryWriter::Open(path_, start_step, 1'795'242'600'000);
    EXPECT_TRUE(writer.ok()) << writer.status();
    return *std::move(writer);
  }
  RunHistory Read(int64_t expect_skipped = 0) {
    int64_t skipped = -1;
    auto history = ReadHistory(path_, &skipped);
    EXPECT_TRUE(history.ok()) << history.status();
    EXPECT_EQ(skipped, expect_skipped);
    return *std::move(history);
  }

  const harness::TemporaryFolder folder_;
  const std::string path_ = folder_.path() + "/history.jsonl";
};

TEST_F(HistoryTest, AnAbsentFileIsAnEmptyHistory) { EXPECT_TRUE(Read().losses.empty()); }

TEST_F(HistoryTest, PointsComeBack) {
  auto writer = Open(0);
  ASSERT_TRUE(writer->Labels({"_silence_", "yes"}).ok());
  ASSERT_TRUE(writer->Append(LossPoint{10, 2.25, 0.001, 1'795'242'601'000}).ok());
  ASSERT_TRUE(writer->Append(EvaluationPoint{10, "validation", 0.5, {1, 2, 3, 4}, 0}).ok());
  ASSERT_TRUE(writer->Append(EvaluationPoint{20, "validation", 0.75, {}, 0}).ok());
  ASSERT_TRUE(writer->Append(ThroughputPoint{2, 10, 123.5, 7, 3, 2, 4, 1, 0}).ok());
  ASSERT_TRUE(writer->Append(EventPoint{10, "a \"quoted\"\nevent", 0}).ok());
  const RunHistory history = Read();
  EXPECT_EQ(history.labels, (std::vector<std::string>{"_silence_", "yes"}));
  ASSERT_EQ(history.losses.size(), 1u);
  EXPECT_EQ(history.losses[0].loss, 2.25);
  EXPECT_EQ(history.losses[0].learning_rate, 0.001);
  EXPECT_EQ(history.losses[0].time_ms, 1'795'242'601'000);
  EXPECT_EQ(history.evaluations[0].confusion, (std::vector<int64_t>{1, 2, 3, 4}));
  EXPECT_EQ(history.Last("validation")->accuracy, 0.75);
  EXPECT_EQ(history.Last("testing"), nullptr);
  EXPECT_EQ(history.throughput[0].replica, 2);
  EXPECT_EQ(history.throughput[0].push_ms, 3);
  EXPECT_EQ(history.throughput[0].wait_ms, 2);
  EXPECT_EQ(history.throughput[0].pull_ms, 4);
  EXPECT_EQ(history.events[0].text, "a \"quoted\"\nevent");
}

TEST_F(HistoryTest, AResumeVoidsThePointsBeyondItsStep) {
  for (const int64_t start : {0, 20}) {
    auto writer = Open(start);
    for (int64_t step = start + 10; step <= start + 40; step += 10) {
      ASSERT_TRUE(writer->Append(LossPoint{step, start == 0 ? 1.0 : 2.0, 0.1, 0}).ok());
    }
  }
  const RunHistory history = Read();
  std::vector<int64_t> steps;
  for (const LossPoint& point : history.losses) {
    steps.push_back(point.step);
    EXPECT_EQ(point.loss, point.step <= 20 ? 1.0 : 2.0);
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{10, 20, 30, 40, 50, 60}));
  ASSERT_EQ(history.events.size(), 1u);
  EXPECT_EQ(history.events[0].text, "resumed at step 20");
}

TEST_F(HistoryTest, AStartFromTheBeginningVoidsEverything) {
  ASSERT_TRUE(Open(0)->Append(LossPoint{10, 1, 0.1, 0}).ok());
  Open(0);
  const RunHistory history = Read();
  EXPECT_TRUE(history.losses.empty());
  ASSERT_EQ(history.events.size(), 1u);
  EXPECT_EQ(history.events[0].text, "started again from the beginning");
}

TEST_F(HistoryTest, ATornLastLineIsSkippedAndThenCutOff) {
  ASSERT_TRUE(Open(0)->Append(LossPoint{10, 1, 0.1, 0}).ok());
  std::ofstream(path_, std::ios::app) << R"({"kind":"loss","st)";
  EXPECT_EQ(Read(1).losses.size(), 1u);
  ASSERT_TRUE(Open(10)->Append(LossPoint{20, 1, 0.1, 0}).ok());
  EXPECT_EQ(Read(0).losses.size(), 2u);
}

TEST_F(HistoryTest, ANonFiniteLossIsKeptAsSuch) {
  ASSERT_TRUE(
      Open(0)->Append(LossPoint{10, std::numeric_limits<double>::quiet_NaN(), 0.1, 0}).ok());
  EXPECT_TRUE(std::isnan(Read().losses[0].loss));
}

TEST_F(HistoryTest, LinesOfAnotherKindAreLeftAlone) {
  std::ofstream(path_) << R"({"kind":"of a later build"})"
                       << "\n";
  EXPECT_TRUE(Read().losses.empty());
}

}  // namespace
}  // namespace muster::master
