// The journal of machines: there before anything is asked for, held while its launcher lives,
// readable whatever became of it.
#include "cluster/journal.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <random>

#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class JournalTest : public ::testing::Test {
 protected:
  JournalHead Head(const std::string& job = "job") {
    JournalHead head{.job_id = job, .run = "mu1", .job_dir = "/jobs/job", .owner = "me@here"};
    head.cluster.set_provider(Cluster::AWS);
    head.cluster.mutable_aws()->add_regions("us-east-1");
    return head;
  }
  const harness::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path() + "/muster/machines";
};

TEST_F(JournalTest, SaysWhoseMachinesWhere) {
  {
    const auto journal = MachineJournal::Begin(folder_, Head(), 1000);
    ASSERT_TRUE(journal.ok()) << journal.status();
    EXPECT_EQ((*journal)->asked_ms(), 0);
    ASSERT_TRUE((*journal)->Asking("mu1-1-master", 2000).ok());
    ASSERT_TRUE((*journal)->Asking("mu1-1-worker", 3000).ok());
  }
  const auto journal = MachineJournal::TakeOver(folder_, "job");
  ASSERT_TRUE(journal.ok()) << journal.status();
  const JournalHead& head = (*journal)->head();
  EXPECT_EQ(head.run, "mu1");
  EXPECT_EQ(head.job_dir, "/jobs/job");
  EXPECT_EQ(head.owner, "me@here");
  EXPECT_EQ(head.cluster.aws().regions(0), "us-east-1");
  EXPECT_EQ((*journal)->asked_ms(), 3000);
}

TEST_F(JournalTest, SaysSinceWhenMachinesAreStoppedAndWhatTheirDisksCost) {
  {
    const auto journal = MachineJournal::Begin(folder_, Head(), 1000);
    EXPECT_EQ((*journal)->stopped_ms(), 0);
    ASSERT_TRUE((*journal)->Stopping(7000, "3 disks").ok());
  }
  const auto journal = MachineJournal::TakeOver(folder_, "job");
  ASSERT_TRUE(journal.ok()) << journal.status();
  EXPECT_EQ((*journal)->stopped_ms(), 7000);
  EXPECT_EQ((*journal)->disks(), "3 disks");
}

TEST_F(JournalTest, SaysUntilWhenAJobWasLeft) {
  {
    const auto journal = MachineJournal::Begin(folder_, Head(), 1000);
    EXPECT_EQ((*journal)->left_until_ms(), 0);
    ASSERT_TRUE((*journal)->Asking("mu1-1-master", 2000).ok());
    ASSERT_TRUE((*journal)->Leaving(7000).ok());
    ASSERT_TRUE((*journal)->Leaving(9000).ok());
  }
  const auto journal = MachineJournal::TakeOver(folder_, "job");
  ASSERT_TRUE(journal.ok()) << journal.status();
  EXPECT_EQ((*journal)->left_until_ms(), 9000) << "the last time that it was";
  EXPECT_EQ((*journal)->asked_ms(), 2000);
}

TEST_F(JournalTest, IsItsUsersAlone) {
  const auto journal = MachineJournal::Begin(folder_, Head(), 0);
  struct stat info {};
  ASSERT_EQ(stat(folder_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  ASSERT_EQ(stat((folder_ + "/job.jsonl").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(JournalTest, IsHeldWhileItsLauncherLives) {
  {
    const auto journal = MachineJournal::Begin(folder_, Head(), 0);
    EXPECT_EQ(MachineJournal::Begin(folder_, Head(), 0).status().code(),
              absl::StatusCode::kAlreadyExists);
    EXPECT_EQ(MachineJournal::TakeOver(folder_, "job").status().code(),
              absl::StatusCode::kFailedPrecondition);
  }
  EXPECT_TRUE(MachineJournal::TakeOver(folder_, "job").ok());
}

TEST_F(JournalTest, IsGoneWithItsMachines) {
  const auto a = MachineJournal::Begin(folder_, Head("a"), 0);
  const auto b = MachineJournal::Begin(folder_, Head("b"), 0);
  EXPECT_THAT(MachineJournal::Jobs(folder_), ElementsAre("a", "b"));
  EXPECT_TRUE((*a)->Close().ok());
  EXPECT_THAT(MachineJournal::Jobs(folder_), ElementsAre("b"));
  EXPECT_EQ(MachineJournal::TakeOver(folder_, "a").status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE((*b)->Close().ok());
  EXPECT_THAT(MachineJournal::Jobs(folder_), IsEmpty());
  EXPECT_THAT(MachineJournal::Jobs(folder_ + "/nowhere"), IsEmpty());
  EXPECT_TRUE(std::filesystem::is_empty(folder_)) << "a draft is left";
}

TEST_F(JournalTest, ADamagedOneIsToldAndNeverTrusted) {
  std::string good;
  {
    const auto journal = MachineJournal::Begin(folder_, Head(), 1000);
    ASSERT_TRUE((*journal)->Asking("mu1-1-master", 2000).ok());
    good = *ReadFile(folder_ + "/job.jsonl");
  }
  const auto take = [&](const std::string& text) {
    EXPECT_TRUE(WriteFileAtomically(folder_ + "/job.jsonl", text).ok());
    return MachineJournal::TakeOver(folder_, "job");
  };
  for (const std::string& text :
       {std::string(), std::string("{}\n"), std::string("nonsense\n"), good.substr(0, 30)}) {
    const auto journal = take(text);
    EXPECT_EQ(journal.status().code(), absl::StatusCode::kDataLoss) << text;
    EXPECT_THAT(std::string(journal.status().message()),
                AllOf(HasSubstr("job.jsonl:1: "), HasSubstr("launch gc --config FILE")));
  }
  // Half of a last line: what it announces was never asked for.
  const auto half = take(good + "{\"asking\": \"2026-");
  ASSERT_TRUE(half.ok()) << half.status();
  EXPECT_EQ((*half)->asked_ms(), 2000);
  // A line that was damaged later may have announced something.
  std::string torn = good;
  torn.replace(torn.find("{\"asking"), 3, "???");
  const auto damaged = take(torn);
  ASSERT_TRUE(damaged.ok()) << damaged.status();
  EXPECT_NE((*damaged)->asked_ms(), 0);
  // One of another job under this name.
  std::string other = good;
  other.replace(other.find("\"job\""), 5, "\"jab\"");
  EXPECT_EQ(take(other).status().code(), absl::StatusCode::kDataLoss);
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    std::string text = good;
    for (int i = 0; i < 4; ++i) text[random() % text.size()] = static_cast<char>(random());
    (void)take(text).ok();
  }
}

}  // namespace
}  // namespace muster::cluster
