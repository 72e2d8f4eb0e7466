#include "master/job_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "ps/safetensors.h"
#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster::master {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

namespace fs = std::filesystem;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class JobDirectoryTest : public ::testing::Test {
 protected:
  // A part and, with `commit`, its manifest.
  void AddCheckpoint(int64_t step, std::optional<double> accuracy = std::nullopt,
                     bool commit = true) {
    fs::create_directories(dir_.checkpoint(step));
    const std::vector<float> weights = {1, 2, 3, 4};
    const ps::TensorView tensor = {"w", {4}, weights};
    ASSERT_TRUE(ps::WriteSafetensors(Part(step), {&tensor, 1}, {}).ok());
    if (!commit) return;
    Manifest manifest;
    manifest.step = step;
    manifest.parts = {{"ps-0.safetensors", static_cast<int64_t>(fs::file_size(Part(step)))}};
    if (accuracy) manifest.metrics["validation_accuracy"] = *accuracy;
    const absl::Status status = CommitCheckpoint(dir_, manifest);
    ASSERT_TRUE(status.ok()) << status;
  }
  std::string Part(int64_t step) const { return dir_.checkpoint(step) + "/ps-0.safetensors"; }
  // Replaces the byte `from_end` bytes before the end of a part; its size stays.
  void Damage(int64_t step, int64_t from_end) {
    std::fstream file(Part(step), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-from_end, std::ios::end);
    file.put('#');
  }
  std::vector<int64_t> Steps() {
    std::vector<int64_t> steps;
    const auto checkpoints = ListCheckpoints(dir_, nullptr);
    for (const Checkpoint& checkpoint : *checkpoints) {
      steps.push_back(checkpoint.step);
    }
    return steps;
  }

  int64_t Best() {
    const auto checkpoints = ListCheckpoints(dir_, nullptr);
    const Checkpoint* best = BestCheckpoint(*checkpoints);
    return best == nullptr ? -1 : best->step;
  }

  const harness::TemporaryFolder folder_;
  const JobDirectory dir_{folder_.path()};
};

TEST_F(JobDirectoryTest, TheLayoutIsMadeAndMayExist) {
  ASSERT_TRUE(CreateJobDirectory(dir_).ok());
  ASSERT_TRUE(CreateJobDirectory(dir_).ok());
  for (const char* folder : {"logs", "checkpoints", "summaries", "export"}) {
    EXPECT_TRUE(fs::is_directory(dir_.root() + "/" + folder)) << folder;
  }
  EXPECT_EQ(dir_.log("worker", 2), dir_.root() + "/logs/worker-2.log");
}

TEST_F(JobDirectoryTest, AFileInTheWayIsNamed) {
  std::ofstream(dir_.root() + "/file") << "x";
  EXPECT_THAT(Message(CreateJobDirectory(JobDirectory(dir_.root() + "/file"))),
              HasSubstr("it is a file; move it away or choose another --job-dir"));
  EXPECT_FALSE(CreateJobDirectory(JobDirectory(dir_.root() + "/file/below")).ok());
}

TEST_F(JobDirectoryTest, AFolderThatCannotBeWrittenIsNamed) {
  const absl::Status status = CreateJobDirectory(JobDirectory("/proc/muster"));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(Message(status), HasSubstr("/proc/muster"));
}

TEST_F(JobDirectoryTest, ASecondLockIsRefusedWithWhoAndSinceWhen) {
  ASSERT_TRUE(CreateJobDirectory(dir_).ok());
  auto first = JobLock::Take(dir_, 1'795'242'600'000);
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = JobLock::Take(dir_, 1'795'242'700'000);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status()));
  EXPECT_THAT(Message(second.status()), HasSubstr("process " + std::to_string(getpid())));
  EXPECT_THAT(Message(second.status()), HasSubstr("since 2026-11-21T06:30:00.000Z"));
  first->reset();
  EXPECT_TRUE(JobLock::Take(dir_, 0).ok());
}

TEST_F(JobDirectoryTest, AKilledHolderLeavesNoLockBehind) {
  ASSERT_TRUE(CreateJobDirectory(dir_).ok());
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const auto lock = JobLock::Take(dir_, 0);
    if (!lock.ok() || write(ready[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_THAT(Message(JobLock::Take(dir_, 0).status()),
              HasSubstr("process " + std::to_string(child)));
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(JobLock::Take(dir_, 0).ok());
  close(ready[0]);
  close(ready[1]);
}

TEST_F(JobDirectoryTest, CheckpointsAreListedByStep) {
  for (const int64_t step : {1000, 200, 30}) AddCheckpoint(step);
  AddCheckpoint(2000, std::nullopt, /*commit=*/false);
  fs::create_directories(dir_.checkpoints() + "/step-x");
  EXPECT_THAT(Steps(), ElementsAre(30, 200, 1000));
  std::vector<std::string> warnings;
  const auto newest = NewestCheckpoint(dir_, &warnings);
  ASSERT_TRUE(newest.ok());
  EXPECT_EQ(newest->step, 1000);
  EXPECT_THAT(newest->part_files(), ElementsAre(dir_.checkpoint(1000) + "/ps-0.safetensors"));
  EXPECT_THAT(warnings, IsEmpty());
}

TEST_F(JobDirectoryTest, NoCheckpointAtAllIsNotFound) {
  std::vector<std::string> warnings;
  EXPECT_TRUE(absl::IsNotFound(NewestCheckpoint(dir_, &warnings).status()));
}

TEST_F(JobDirectoryTest, ATruncatedPartSendsTheRunBackToTheOlderOneWithAWarning) {
  AddCheckpoint(100);
  AddCheckpoint(200);
  fs::resize_file(dir_.checkpoint(200) + "/ps-0.safetensors", 17);
  std::vector<std::string> warnings;
  const auto newest = NewestCheckpoint(dir_, &warnings);
  ASSERT_TRUE(newest.ok());
  EXPECT_EQ(newest->step, 100);
  EXPECT_THAT(warnings,
              ElementsAre(AllOf(HasSubstr("step-200: ps-0.safetensors has 17 bytes instead of "),
                                HasSubstr("; going back to the checkpoint of step 100"))));
}

TEST_F(JobDirectoryTest, ATruncatedManifestToo) {
  AddCheckpoint(100);
  AddCheckpoint(200);
  fs::resize_file(dir_.checkpoint(200) + "/manifest.json", 40);
  std::vector<std::string> warnings;
  EXPECT_EQ(NewestCheckpoint(dir_, &warnings)->step, 100);
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("manifest.json: the text is not a whole JSON")));
}

TEST_F(JobDirectoryTest, DamageThatKeepsTheSizeToo) {
  for (const int64_t step : {100, 200, 300}) AddCheckpoint(step);
  Damage(300, /*from_end=*/3);                                      // data: a checksum finds it
  Damage(200, static_cast<int64_t>(fs::file_size(Part(200))) - 8);  // the header is no JSON
  std::vector<std::string> warnings;
  EXPECT_EQ(NewestCheckpoint(dir_, &warnings)->step, 100);
  EXPECT_THAT(warnings, UnorderedElementsAre(HasSubstr("tensor 'w' is damaged: its CRC-32C is"),
                                             HasSubstr("its header is not a JSON object")));
}

TEST_F(JobDirectoryTest, ADamagedOlderOneIsNoNews) {
  AddCheckpoint(100);
  AddCheckpoint(200);
  fs::remove(dir_.checkpoint(100) + "/ps-0.safetensors");
  std::vector<std::string> warnings;
  EXPECT_EQ(NewestCheckpoint(dir_, &warnings)->step, 200);
  EXPECT_THAT(warnings, IsEmpty());
}

TEST_F(JobDirectoryTest, OnlyDamagedOnesIsAnErrorThatSaysWhatToDo) {
  AddCheckpoint(100);
  fs::resize_file(dir_.checkpoint(100) + "/ps-0.safetensors", 0);
  std::vector<std::string> warnings;
  const auto newest = NewestCheckpoint(dir_, &warnings);
  EXPECT_TRUE(absl::IsDataLoss(newest.status()));
  EXPECT_THAT(Message(newest.status()), HasSubstr("step-100"));
  EXPECT_THAT(Message(newest.status()), HasSubstr("to start from the beginning"));
}

TEST_F(JobDirectoryTest, ACheckpointWithoutItsPartsIsNotCommitted) {
  fs::create_directories(dir_.checkpoint(100));
  Manifest manifest;
  manifest.step = 100;
  manifest.parts = {{"ps-0.safetensors", 100}};
  EXPECT_FALSE(CommitCheckpoint(dir_, manifest).ok());
  EXPECT_THAT(Steps(), IsEmpty());
}

TEST_F(JobDirectoryTest, TheNewestAndTheBestAreKept) {
  AddCheckpoint(100, 0.5);
  AddCheckpoint(200, 0.9);
  AddCheckpoint(300, 0.7);
  AddCheckpoint(400);
  AddCheckpoint(500, 0.8);
  const auto removed = PruneCheckpoints(dir_, 2);
  ASSERT_TRUE(removed.ok()) << removed.status();
  EXPECT_THAT(*removed, ElementsAre(100, 300));
  EXPECT_THAT(Steps(), ElementsAre(200, 400, 500));
  EXPECT_EQ(Best(), 200);
}

TEST_F(JobDirectoryTest, OfEquallyGoodOnesTheNewestIsTheBest) {
  AddCheckpoint(100, 0.5);
  AddCheckpoint(200, 0.5);
  AddCheckpoint(300, std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(Best(), 200);
}

TEST_F(JobDirectoryTest, LeftoversGoButACutOnItsWayStays) {
  AddCheckpoint(100, std::nullopt, /*commit=*/false);
  AddCheckpoint(200);
  AddCheckpoint(300, std::nullopt, /*commit=*/false);
  EXPECT_THAT(*PruneCheckpoints(dir_, 5), ElementsAre(100));
  EXPECT_FALSE(fs::exists(dir_.checkpoint(100)));
  EXPECT_TRUE(fs::exists(dir_.checkpoint(300)));
}

}  // namespace
}  // namespace muster::master
