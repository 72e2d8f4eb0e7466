// Files of a job's directory on their way between hosts.
#include "master/job_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster::master {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::Key;

TEST(JobFiles, PathsStayInside) {
  for (const char* path : {"a", "a/b", "checkpoints/step-3/ps-0.safetensors", "..a/.b"}) {
    EXPECT_TRUE(IsPathInside(path)) << path;
  }
  for (const std::string& path :
       {std::string(), std::string("/a"), std::string("a/"), std::string("a//b"), std::string("."),
        std::string("a/../b"), std::string(".."), std::string("a/./b"), std::string("a\0b", 3)}) {
    EXPECT_FALSE(IsPathInside(path)) << path;
  }
}

class JobFilesTest : public ::testing::Test {
 protected:
  const harness::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path();
};

TEST_F(JobFilesTest, AFileIsThereWhenItsLastPartIs) {
  JobFileWriter writer(folder_);
  ASSERT_TRUE(writer.Write("a/b", "one ", false, 0).ok());
  ASSERT_TRUE(writer.Write("c", "other", true, 5'000'000'007).ok());
  EXPECT_FALSE(fs::exists(folder_ + "/a/b"));
  EXPECT_THAT(*ListJobFiles(folder_), ElementsAre(Key("c")));
  ASSERT_TRUE(writer.Write("a/b", "two", true, 1'000'000'000).ok());
  EXPECT_EQ(*ReadFile(folder_ + "/a/b"), "one two");
  const auto files = *ListJobFiles(folder_);
  EXPECT_EQ(files.at("a/b"), (JobFile{7, 1'000'000'000}));
  EXPECT_EQ(files.at("c"), (JobFile{5, 5'000'000'007}));
}

TEST_F(JobFilesTest, WhatDoesNotFinishLeavesNothing) {
  std::ofstream(folder_ + "/a") << "old";
  {
    JobFileWriter writer(folder_);
    ASSERT_TRUE(writer.Write("a", "new", false, 0).ok());
  }
  EXPECT_EQ(*ReadFile(folder_ + "/a"), "old");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

TEST_F(JobFilesTest, WhatIsOutsideIsNotWritten) {
  JobFileWriter writer(folder_);
  EXPECT_FALSE(writer.Write("../x", "x", true, 0).ok());
  // Nor through a link.
  fs::create_directories(folder_ + "/real");
  fs::create_symlink(folder_ + "/real/target", folder_ + "/a.coming");
  EXPECT_FALSE(writer.Write("a", "x", true, 0).ok());
  EXPECT_FALSE(fs::exists(folder_ + "/real/target"));
}

TEST_F(JobFilesTest, LogsLocksAndUnfinishedFilesStay) {
  fs::create_directories(folder_ + "/logs");
  for (const char* path : {"lock", "logs/a.log", "b.tmp.1.2", "c.coming", "d"}) {
    std::ofstream(folder_ + "/" + path) << "x";
  }
  fs::create_symlink("/etc/hostname", folder_ + "/link");
  EXPECT_THAT(*ListJobFiles(folder_), ElementsAre(Key("d")));
  EXPECT_TRUE(ListJobFiles(folder_ + "/absent")->empty());
}

}  // namespace
}  // namespace muster::master
