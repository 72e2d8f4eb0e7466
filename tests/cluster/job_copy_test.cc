// What a launcher has of a job's directory while the job runs on another machine: the real other
// end answers (NodeFiles), one part at a time.
#include "cluster/job_copy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <filesystem>
#include <fstream>
#include <random>

#include "cluster/node_files.h"
#include "cluster/node_wire.h"
#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

class JobCopyTest : public ::testing::Test {
 protected:
  JobCopyTest() { fs::create_directories(here_); }

  void Write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(there_ + "/" + path).parent_path());
    std::ofstream(there_ + "/" + path) << text;
  }
  void WriteCheckpoint(int step, size_t bytes = 10) {
    const std::string folder = "checkpoints/step-" + std::to_string(step);
    Write(folder + "/ps-0.safetensors", std::string(bytes, 'w'));
    Write(folder + "/ps-1.safetensors", std::string(bytes, 'x'));
    Write(folder + "/manifest.json", "{}");
  }
  // The host sends a part, and the launcher takes it.
  bool Turn() {
    if (files_.sending()) files_.SendPart();
    if (events_.empty()) return false;
    const NodeEvent event = events_.front();
    events_.pop_front();
    EXPECT_TRUE(event.has_files() ? copy_.OnFiles(event.files()) : copy_.OnPart(event.part()));
    return true;
  }
  void TurnAll() {
    while (Turn()) {
    }
  }
  // As much as there is in the time that goes by.
  void Pass(int64_t ms) {
    for (const int64_t end = now_ms_ + ms; now_ms_ < end; now_ms_ += 500) {
      copy_.Tick(now_ms_);
      TurnAll();
    }
  }
  std::vector<std::string> Here() const {
    std::vector<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(here_)) {
      if (entry.is_regular_file()) {
        files.push_back(entry.path().lexically_relative(here_).string());
      }
    }
    std::ranges::sort(files);
    return files;
  }
  std::vector<std::string> Checkpoints() const {
    std::vector<std::string> names;
    if (!fs::exists(here_ + "/checkpoints")) return names;
    for (const auto& entry : fs::directory_iterator(here_ + "/checkpoints")) {
      if (fs::exists(entry.path() / "manifest.json")) names.push_back(entry.path().filename());
    }
    std::ranges::sort(names);
    return names;
  }

  const harness::TemporaryFolder folder_;
  const std::string here_ = folder_.path() + "/here", there_ = folder_.path() + "/there";
  int64_t now_ms_ = 1'000'000;
  std::deque<NodeEvent> events_;
  NodeFiles files_{there_, [this](const NodeEvent& event) { events_.push_back(event); }};
  JobCopy copy_{here_,
                {.list =
                     [this] {
                       NodeRequest request;
                       request.mutable_list();
                       EXPECT_TRUE(files_.Handle(request).ok());
                     },
                 .get =
                     [this](const std::string& path) {
                       NodeRequest request;
                       request.mutable_get()->set_path(path);
                       EXPECT_TRUE(files_.Handle(request).ok());
                     }}};
};

TEST_F(JobCopyTest, TheStateComesEveryTwoSecondsAndTheRestEveryTen) {
  Write("state.json", "1");
  Write("report.html", "r");
  WriteCheckpoint(20);
  Pass(12'000);
  EXPECT_THAT(
      Here(),
      ElementsAre("checkpoints/step-20/manifest.json", "checkpoints/step-20/ps-0.safetensors",
                  "checkpoints/step-20/ps-1.safetensors", "report.html", "state.json"));
  Write("state.json", "2");
  Write("report.html", "another");
  Pass(2'500);
  EXPECT_EQ(*ReadFile(here_ + "/state.json"), "2");
  EXPECT_EQ(*ReadFile(here_ + "/report.html"), "r");
  Pass(10'000);
  EXPECT_EQ(*ReadFile(here_ + "/report.html"), "another");
}

TEST_F(JobCopyTest, OfCheckpointsTheNewestComesAndWhatWasDroppedGoesOnceThereIsANewer) {
  WriteCheckpoint(80);
  WriteCheckpoint(100);
  Pass(12'000);
  EXPECT_THAT(Checkpoints(), ElementsAre("step-100"));
  fs::remove_all(there_ + "/checkpoints/step-80");
  fs::remove_all(there_ + "/checkpoints/step-100");
  Pass(12'000);
  EXPECT_THAT(Checkpoints(), ElementsAre("step-100")) << "nothing is there in its place";
  WriteCheckpoint(120);
  Pass(24'000);
  EXPECT_THAT(Checkpoints(), ElementsAre("step-120"));
  // Also where each list has a newer one.
  for (int step = 140; step < 240; step += 20) {
    fs::remove_all(there_ + "/checkpoints");
    WriteCheckpoint(step);
    Pass(11'000);
    EXPECT_THAT(Checkpoints(), ElementsAre("step-" + std::to_string(step)));
  }
}

TEST_F(JobCopyTest, TheStateDoesNotWaitForALargeCheckpointNorIsThatOneBeforeItIsWhole) {
  WriteCheckpoint(20, 6 * kMaxPartBytes);
  Write("state.json", "1");
  copy_.Tick(now_ms_);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(Turn());
  Write("state.json", "2");
  now_ms_ += 2'000;
  copy_.Tick(now_ms_);
  int turns = 0;
  while (*ReadFile(here_ + "/state.json") != "2") {
    ASSERT_TRUE(Turn());
    ++turns;
  }
  EXPECT_LE(turns, 6) << "and not 6 parts of 2 files";
  EXPECT_THAT(Here(),
              UnorderedElementsAre("state.json", "checkpoints/step-20/ps-0.safetensors.coming",
                                   "checkpoints/step-20/ps-1.safetensors.coming"));
  TurnAll();
  EXPECT_THAT(Checkpoints(), IsEmpty());
  now_ms_ += 500;
  copy_.Tick(now_ms_);
  TurnAll();
  EXPECT_THAT(Checkpoints(), ElementsAre("step-20"));
  EXPECT_TRUE(copy_.idle());
}

// Somebody else asks, at the end.
TEST_F(JobCopyTest, WhileItPausesItAsksForNothingMore) {
  WriteCheckpoint(20);
  copy_.Tick(now_ms_);
  copy_.Pause();
  TurnAll();
  EXPECT_TRUE(copy_.idle());
  EXPECT_THAT(Checkpoints(), IsEmpty());
  EXPECT_FALSE(copy_.OnFiles(FileList()));
  EXPECT_FALSE(copy_.OnPart(FilePart()));
  Pass(12'000);
  EXPECT_THAT(Checkpoints(), ElementsAre("step-20"));
}

TEST_F(JobCopyTest, WhatTheHostSaysOfPathsOutsideIsNotWritten) {
  FileList list;
  list.add_files()->set_path("../outside");
  list.add_files()->set_path("checkpoints/step-1/../../../outside");
  copy_.Tick(now_ms_);
  events_.clear();
  ASSERT_TRUE(copy_.OnFiles(list));
  for (const FileList::File& file : list.files()) {
    FilePart part;
    part.set_path(file.path());
    part.set_bytes("x");
    part.set_last(true);
    copy_.OnPart(part);
  }
  EXPECT_FALSE(fs::exists(folder_.path() + "/outside"));
  EXPECT_THAT(Here(), IsEmpty());
}

// The master writes checkpoints and drops old ones at any moment; files come when they like.
TEST_F(JobCopyTest, WhateverHappensMeanwhileACheckpointWithAManifestIsWhole) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    fs::remove_all(there_);
    fs::remove_all(here_);
    fs::create_directories(here_);
    std::deque<int> kept;
    int newest = 0;
    for (int i = 0; i < 60; ++i) {
      switch (random() % 4) {
        case 0:
          newest = 7 * i + 1;
          WriteCheckpoint(newest, random() % 3 == 0 ? kMaxPartBytes + 1 : 5);
          kept.push_back(newest);
          if (kept.size() > 2) {
            const std::string old = there_ + "/checkpoints/step-" + std::to_string(kept.front());
            fs::remove(old + "/manifest.json");
            fs::remove_all(old);
            kept.pop_front();
          }
          break;
        case 1:
          now_ms_ += static_cast<int64_t>(random() % 12'000);
          copy_.Tick(now_ms_);
          break;
        default:
          Turn();
      }
      for (const std::string& name : Checkpoints()) {
        for (const char* part : {"ps-0.safetensors", "ps-1.safetensors"}) {
          ASSERT_TRUE(fs::exists(here_ + "/checkpoints/" + name + "/" + part)) << name << part;
        }
      }
    }
    Pass(30'000);
    const std::vector<std::string> have = Checkpoints();
    if (newest > 0) {
      EXPECT_THAT(have, ::testing::Contains("step-" + std::to_string(newest)));
    }
    EXPECT_LE(have.size(), 3u);
  }
}

}  // namespace
}  // namespace muster::cluster
