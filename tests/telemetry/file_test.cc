#include "telemetry/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "tests/harness/temporary_folder.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

class FileTest : public ::testing::Test {
 protected:
  const harness::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path();
};

TEST_F(FileTest, AWrittenFileReadsBack) {
  const std::string text("with a \0 byte and\nlines", 23);
  ASSERT_TRUE(WriteFileAtomically(folder_ + "/a", text).ok());
  EXPECT_EQ(*ReadFile(folder_ + "/a"), text);
}

TEST_F(FileTest, AWriteReplacesTheWholeFileAndLeavesNothingBeside) {
  ASSERT_TRUE(WriteFileAtomically(folder_ + "/a", std::string(100'000, 'x')).ok());
  ASSERT_TRUE(WriteFileAtomically(folder_ + "/a", "short").ok());
  EXPECT_EQ(*ReadFile(folder_ + "/a"), "short");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(FileTest, AnAbsentFileIsNotFoundAndNamed) {
  const auto text = ReadFile(folder_ + "/none");
  EXPECT_EQ(text.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(text.status().message()), HasSubstr(folder_ + "/none"));
}

TEST_F(FileTest, AFileInTheWayOfAFolderIsNamed) {
  std::ofstream(folder_ + "/a") << "x";
  const absl::Status status = WriteFileAtomically(folder_ + "/a/b", "text");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("/a/b"));
}

TEST(ErrnoStatusTest, AFullDiskIsToldWithWhatToDo) {
  const absl::Status status = ErrnoStatus(ENOSPC, "cannot write D/state.json");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("cannot write D/state.json: "));
  EXPECT_THAT(std::string(status.message()), HasSubstr("free some space"));
}

TEST_F(FileTest, AFailedWriteKeepsTheOldFile) {
  // The temporary file's name is longer than the file system takes.
  const std::string path = folder_ + "/" + std::string(250, 'n');
  std::ofstream(path) << "old";
  EXPECT_FALSE(WriteFileAtomically(path, "new").ok());
  EXPECT_EQ(*ReadFile(path), "old");
}

}  // namespace
}  // namespace muster
