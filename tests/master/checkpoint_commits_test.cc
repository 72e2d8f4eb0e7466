#include "master/checkpoint_commits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include "tests/harness/temporary_folder.h"

namespace muster::master {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Two servers, of a run that resumed at step 5.
class CheckpointCommitsTest : public ::testing::Test {
 protected:
  CheckpointCommitsTest() { EXPECT_TRUE(CreateJobDirectory(dir_).ok()); }

  // A server's word that its part is there, and the part.
  CutDone Part(int server, int64_t clock) {
    std::filesystem::create_directories(dir_.checkpoint(clock));
    CutDone done;
    done.set_clock(clock);
    done.set_file(fmt::format("{}/ps-{}.safetensors", dir_.checkpoint(clock), server));
    std::ofstream(done.file()) << "weights";
    return done;
  }
  CutDone Failure(int64_t clock) {
    CutDone done;
    done.set_clock(clock);
    done.set_error("no space left on device");
    return done;
  }
  void Cut(int64_t clock) {
    for (int server : {0, 1}) commits_.OnCut(server, Part(server, clock));
  }
  // Steps and accuracies (-1: none) of the valid checkpoints on disk.
  std::vector<std::pair<int64_t, double>> OnDisk() {
    std::vector<std::pair<int64_t, double>> found;
    const auto checkpoints = ListCheckpoints(dir_, nullptr);
    EXPECT_TRUE(checkpoints.ok());
    for (const Checkpoint& checkpoint : *checkpoints) {
      const auto& metrics = checkpoint.manifest.metrics;
      const auto accuracy = metrics.find("validation_accuracy");
      found.emplace_back(checkpoint.step, accuracy == metrics.end() ? -1 : accuracy->second);
    }
    return found;
  }

  const harness::TemporaryFolder folder_;
  const JobDirectory dir_{folder_.path()};
  const std::unique_ptr<Log> log_ = Log::Discard();
  std::vector<std::string> warnings_;
  RunRecord record_{{.dir = dir_,
                     .log = log_.get(),
                     .on_status =
                         [this](const StatusLine& line) {
                           if (const auto* message = std::get_if<MessageLine>(&line)) {
                             warnings_.push_back(message->text);
                           }
                         },
                     .now_ms = [] { return 1'795'242'600'000; }},
                    JobState()};
  CheckpointCommits commits_{{.dir = dir_,
                              .servers = 2,
                              .keep = 2,
                              .resumed_from = 5,
                              .log = log_.get(),
                              .record = &record_,
                              .now_ms = [] { return 1'795'242'600'000; }}};
};

TEST_F(CheckpointCommitsTest, ACheckpointIsValidOnceEveryServerHasWrittenItsPart) {
  commits_.OnCut(1, Part(1, 10));
  EXPECT_FALSE(commits_.Outcome(10).has_value());
  EXPECT_THAT(OnDisk(), IsEmpty());
  commits_.OnCut(0, Part(0, 10));
  EXPECT_TRUE(commits_.Outcome(10)->ok());
  EXPECT_THAT(OnDisk(), ElementsAre(std::pair(10, -1)));
  EXPECT_EQ(record_.state().last_checkpoint->path, "checkpoints/step-10");
}

TEST_F(CheckpointCommitsTest, ResidualsAreWrittenBeforeTheManifestAndNamedInIt) {
  CheckpointCommits commits({.dir = dir_,
                             .servers = 1,
                             .replicas = 2,
                             .log = log_.get(),
                             .record = &record_,
                             .now_ms = [] { return 1'795'242'600'000; }});
  const auto residuals = [&](int replica) {
    CutDone done = Part(0, 10);
    done.set_replica(replica);
    done.set_file(fmt::format("{}/replica-{}.safetensors", dir_.checkpoint(10), replica));
    std::ofstream(done.file()) << "not sent";
    return done;
  };
  commits.OnCut(0, Part(0, 10));
  commits.OnCut(0, residuals(1));
  EXPECT_THAT(OnDisk(), IsEmpty());
  commits.OnCut(0, residuals(0));
  EXPECT_TRUE(commits.Outcome(10)->ok());
  ASSERT_EQ(OnDisk().size(), 1u);
  const auto checkpoints = ListCheckpoints(dir_, nullptr);
  EXPECT_THAT(checkpoints->front().part_files(),
              ElementsAre(dir_.checkpoint(10) + "/ps-0.safetensors"));
  EXPECT_THAT(checkpoints->front().residual_files(),
              ElementsAre(dir_.checkpoint(10) + "/replica-0.safetensors",
                          dir_.checkpoint(10) + "/replica-1.safetensors"));
  std::filesystem::remove(checkpoints->front().residual_files().front());
  EXPECT_THAT(OnDisk(), IsEmpty()) << "a checkpoint without one of its parts is damaged";
}

TEST_F(CheckpointCommitsTest, TheOneThatTheRunBeganWithIsThere) {
  EXPECT_TRUE(commits_.Outcome(5)->ok());
  EXPECT_FALSE(commits_.Outcome(10).has_value());
}

TEST_F(CheckpointCommitsTest, OneThatWasNotWrittenIsToldWithTheReason) {
  commits_.OnCut(0, Part(0, 10));
  commits_.OnCut(1, Failure(10));
  EXPECT_THAT(OnDisk(), IsEmpty());
  EXPECT_THAT(warnings_, ElementsAre("the checkpoint of step 10 was not written: no space left on "
                                     "device"));
  ASSERT_TRUE(commits_.Outcome(10).has_value());
  EXPECT_TRUE(absl::IsResourceExhausted(*commits_.Outcome(10)));
  EXPECT_FALSE(record_.state().last_checkpoint.has_value());
  Cut(20);
  EXPECT_TRUE(commits_.Outcome(20)->ok()) << "the next one may be";
}

TEST_F(CheckpointCommitsTest, APartThatIsNotThereIsAFailure) {
  const CutDone gone = Part(0, 10);
  std::filesystem::remove(gone.file());
  commits_.OnCut(0, gone);
  commits_.OnCut(1, Part(1, 10));
  EXPECT_TRUE(absl::IsResourceExhausted(*commits_.Outcome(10)));
  EXPECT_THAT(warnings_, ElementsAre(HasSubstr("ps-0.safetensors")));
}

TEST_F(CheckpointCommitsTest, TheAccuracyOfItsStepIsAddedWhicheverComesFirst) {
  commits_.OnAccuracy(10, 0.5);
  Cut(10);
  EXPECT_THAT(OnDisk(), ElementsAre(std::pair(10, 0.5)));
  Cut(20);
  commits_.OnAccuracy(20, 0.75);
  EXPECT_THAT(OnDisk(), ElementsAre(std::pair(10, 0.5), std::pair(20, 0.75)));
  EXPECT_EQ(record_.state().last_checkpoint->validation_accuracy, 0.75);
}

TEST_F(CheckpointCommitsTest, TheBestIsTheLastOfTheHighestAccuracy) {
  const auto evaluated = [this](int64_t step, double accuracy) {
    Cut(step);
    commits_.OnAccuracy(step, accuracy);
    return record_.state().best_checkpoint->step;
  };
  EXPECT_EQ(evaluated(10, 0.5), 10);
  EXPECT_EQ(evaluated(20, 0.75), 20);
  EXPECT_EQ(evaluated(30, 0.5), 20);
  EXPECT_EQ(evaluated(40, 0.75), 40);
}

TEST_F(CheckpointCommitsTest, OldOnesGoButTheBestStays) {
  for (int64_t step : {10, 20, 30, 40}) {
    Cut(step);
    commits_.OnAccuracy(step, step == 10 ? 0.75 : 0.5);
  }
  EXPECT_THAT(OnDisk(), ElementsAre(std::pair(10, 0.75), std::pair(30, 0.5), std::pair(40, 0.5)));
}

}  // namespace
}  // namespace muster::master
