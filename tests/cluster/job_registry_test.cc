// The registry of jobs: what was written comes back, and what somebody else has put there is one
// line each.
#include "cluster/job_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class JobRegistryTest : public ::testing::Test {
 protected:
  JobEntry Entry(const std::string& id, const std::string& dir, int64_t began_ms = 1000) {
    return {id, folder_.path() + "/" + dir, "SSH", began_ms, true};
  }
  void Add(const JobEntry& entry) { ASSERT_TRUE(registry_.Write(entry).ok()); }
  // A job's directory with a state.json.
  std::string MakeJob(const std::string& name) {
    const std::string dir = folder_.path() + "/" + name;
    fs::create_directories(dir);
    master::JobState state;
    state.job_id = "of_" + name;
    EXPECT_TRUE(master::WriteJobState(dir + "/state.json", state).ok());
    return dir;
  }
  std::string Complaint(const std::string& word) {
    const auto found = registry_.Find(word);
    EXPECT_FALSE(found.ok());
    return std::string(found.status().message());
  }
  std::vector<std::string> Ids() {
    damaged_.clear();
    std::vector<std::string> ids;
    for (const JobEntry& entry : registry_.Read(&damaged_)) ids.push_back(entry.job_id);
    return ids;
  }

  const harness::TemporaryFolder folder_;
  const std::string jobs_ = folder_.path() + "/muster/jobs";
  const JobRegistry registry_{jobs_};
  std::vector<std::string> damaged_;
};

TEST_F(JobRegistryTest, WhatIsWrittenComesBackTheNewestFirst) {
  EXPECT_THAT(Ids(), IsEmpty());
  Add(Entry("early", "a", 1000));
  Add(Entry("late", "b", 2000));
  EXPECT_THAT(Ids(), ElementsAre("late", "early"));
  const JobEntry entry = registry_.Read(&damaged_)[0];
  EXPECT_EQ(entry.job_dir, folder_.path() + "/b");
  EXPECT_EQ(entry.provider, "SSH");
  EXPECT_EQ(entry.began_ms, 2000);
  EXPECT_TRUE(entry.stays);
  EXPECT_THAT(damaged_, IsEmpty());
}

TEST_F(JobRegistryTest, NobodyElseCanReadTheFolder) {
  Add(Entry("job", "a"));
  struct stat info {};
  ASSERT_EQ(stat(jobs_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
}

TEST_F(JobRegistryTest, ARunInTheSameDirectoryReplacesTheEarlierOne) {
  Add(Entry("job", "a", 1000));
  Add(Entry("job", "a", 2000));
  Add(Entry("job", "b", 3000));
  EXPECT_THAT(Ids(), ElementsAre("job", "job"));
}

TEST_F(JobRegistryTest, AJobIsFoundByIdByItsBeginningAndByDirectory) {
  const std::string known = MakeJob("known"), stranger = MakeJob("stranger");
  Add(Entry("speech_1", "known"));
  Add(Entry("speech_12", "elsewhere"));
  EXPECT_EQ(registry_.Find("speech_1")->job_dir, known);
  EXPECT_EQ(registry_.Find("speech_12")->job_id, "speech_12");
  EXPECT_THAT(Complaint("spee"), HasSubstr("2 jobs could be meant by spee"));
  EXPECT_EQ(registry_.Find(known)->job_id, "speech_1");
  EXPECT_EQ(registry_.Find(known + "/")->job_id, "speech_1");
  // A job directory that came from another machine.
  EXPECT_EQ(registry_.Find(stranger)->job_id, "of_stranger");
  EXPECT_THAT(Complaint("other"), HasSubstr("other is no job of launch jobs list"));
  EXPECT_THAT(Complaint(""), HasSubstr("no job is named"));
  EXPECT_THAT(Complaint(folder_.path()), HasSubstr("there is no state.json"));
}

TEST_F(JobRegistryTest, TheSameIdInTwoDirectoriesAsksForOne) {
  Add(Entry("job", "a"));
  Add(Entry("job", "b"));
  EXPECT_THAT(Complaint("job"), HasSubstr(folder_.path() + "/b (job)"));
}

TEST_F(JobRegistryTest, HostileFilesAreOneLineEach) {
  Add(Entry("good", "a"));
  const auto write = [&](const std::string& name, const std::string& text) {
    std::ofstream(jobs_ + "/" + name, std::ios::binary) << text;
  };
  write("empty.json", "");
  write("cut.json", R"({"schemaVersion": 1, "jobId": "x)");
  write("array.json", "[1, 2]");
  write("types.json", R"({"schemaVersion": 1, "jobId": 7, "jobDir": []})");
  write("newer.json", R"({"schemaVersion": 99, "jobId": "x", "jobDir": "/x"})");
  write("relative.json", R"({"schemaVersion": 1, "jobId": "x", "jobDir": "../x"})");
  write("steers.json", R"({"schemaVersion": 1, "jobId": "x\u001b[2J", "jobDir": "/x"})");
  write("deep.json", std::string(50'000, '['));
  write("huge.json", std::string(1 << 20, ' '));
  ASSERT_EQ(mkfifo((jobs_ + "/pipe.json").c_str(), 0600), 0);
  fs::create_symlink("/dev/zero", jobs_ + "/device.json");
  fs::create_symlink("loop.json", jobs_ + "/loop.json");
  fs::create_directory(jobs_ + "/of_ssh");
  write("note.txt", "not ours");
  EXPECT_THAT(Ids(), ElementsAre("good"));
  EXPECT_THAT(damaged_, SizeIs(12));
  for (const std::string& line : damaged_) {
    EXPECT_THAT(line, HasSubstr(".json is left out: "));
    EXPECT_THAT(line, Not(HasSubstr("\n")));
    EXPECT_THAT(line, Not(HasSubstr("\x1b")));
  }
}

TEST_F(JobRegistryTest, AnyBytesAreAnEntryOrALine) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  Add(Entry("job", "a"));
  const std::string path = fs::directory_iterator(jobs_)->path();
  std::ifstream file(path);
  const std::string whole((std::istreambuf_iterator<char>(file)), {});
  for (int round = 0; round < 500; ++round) {
    std::string text = whole.substr(0, random() % 2 ? whole.size() : random() % whole.size());
    for (unsigned i = 0; i < random() % 6 && !text.empty(); ++i) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    std::ofstream(path, std::ios::binary) << text;
    EXPECT_EQ(Ids().size() + damaged_.size(), 1U) << text;
  }
}

}  // namespace
}  // namespace muster::cluster
