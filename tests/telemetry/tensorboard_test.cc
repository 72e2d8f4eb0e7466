#include "telemetry/tensorboard.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "telemetry/crc32c.h"
#include "telemetry/event.pb.h"
#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster {
namespace {

using tensorboard::Event;
using tensorboard::SessionLog;

// The test vectors of RFC 3720, appendix B.4, and the customary check value.
TEST(Crc32cTest, KnownVectors) {
  EXPECT_EQ(Crc32c(""), 0u);
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62A8AB43u);
  std::string rising, falling;
  for (int i = 0; i < 32; ++i) {
    rising.push_back(static_cast<char>(i));
    falling.push_back(static_cast<char>(31 - i));
  }
  EXPECT_EQ(Crc32c(rising), 0x46DD794Eu);
  EXPECT_EQ(Crc32c(falling), 0x113FDB5Cu);
}

TEST(Crc32cTest, TheMaskIsARotationAndAConstant) {
  EXPECT_EQ(MaskCrc32c(0), 0xa282ead8u);
  EXPECT_EQ(MaskCrc32c(0x00008000u), 0xa282ead9u);
  EXPECT_EQ(MaskCrc32c(0x00000001u), 0xa282ead8u + 0x00020000u);
}

// Reads whole frames until the end or a torn one; fails the test on a checksum that does not fit.
std::vector<Event> ReadEvents(const std::string& path) {
  const std::string file = *ReadFile(path);
  std::vector<Event> events;
  size_t at = 0;
  while (file.size() - at >= 12) {
    uint64_t length;
    uint32_t crc;
    std::memcpy(&length, &file[at], 8);
    std::memcpy(&crc, &file[at + 8], 4);
    EXPECT_EQ(crc, MaskCrc32c(Crc32c(std::string_view(file).substr(at, 8))));
    if (file.size() - at < 16 + length) break;
    const std::string payload = file.substr(at + 12, length);
    std::memcpy(&crc, &file[at + 12 + length], 4);
    EXPECT_EQ(crc, MaskCrc32c(Crc32c(payload)));
    events.emplace_back();
    EXPECT_TRUE(events.back().ParseFromString(payload));
    at += 16 + length;
  }
  return events;
}

class TensorboardTest : public ::testing::Test {
 protected:
  const harness::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path() + "/summaries";
};

TEST_F(TensorboardTest, AFileBeginsWithItsVersionAndHoldsTheScalars) {
  auto writer = SummaryWriter::Create(folder_, 1'795'242'600'500);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->Scalar("train/loss", 10, 2.5, 1'795'242'601'000).ok());
  ASSERT_TRUE((*writer)->Scalar("validation/accuracy", 20, 0.75, 1'795'242'602'250).ok());
  const std::vector<Event> events = ReadEvents((*writer)->path());
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].file_version(), "brain.Event:2");
  EXPECT_EQ(events[0].wall_time(), 1795242600.5);
  EXPECT_EQ(events[1].step(), 10);
  EXPECT_EQ(events[1].summary().value(0).tag(), "train/loss");
  EXPECT_EQ(events[1].summary().value(0).simple_value(), 2.5f);
  EXPECT_EQ(events[2].wall_time(), 1795242602.25);
  EXPECT_EQ(events[2].summary().value(0).simple_value(), 0.75f);
}

TEST_F(TensorboardTest, TheNameIsOneThatTensorBoardFinds) {
  auto writer = SummaryWriter::Create(folder_, 1'795'242'600'500);
  ASSERT_TRUE(writer.ok());
  EXPECT_NE((*writer)->path().find("/events.out.tfevents.1795242600."), std::string::npos);
}

TEST_F(TensorboardTest, AResumedRunGetsItsOwnFileThatVoidsTheLaterPoints) {
  auto first = SummaryWriter::Create(folder_, 1'795'242'600'000);
  ASSERT_TRUE(first.ok());
  auto second = SummaryWriter::Create(folder_, 1'795'242'600'000, 400);
  ASSERT_TRUE(second.ok());
  EXPECT_NE((*first)->path(), (*second)->path());
  const std::vector<Event> events = ReadEvents((*second)->path());
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[1].session_log().status(), SessionLog::START);
  EXPECT_EQ(events[1].step(), 400);
}

TEST_F(TensorboardTest, ATornFrameAtTheEndCostsOnlyItself) {
  auto writer = SummaryWriter::Create(folder_, 0);
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Scalar("loss", 1, 1, 0).ok());
  ASSERT_TRUE((*writer)->Scalar("loss", 2, 1, 0).ok());
  const auto size = std::filesystem::file_size((*writer)->path());
  std::filesystem::resize_file((*writer)->path(), size - 3);
  EXPECT_EQ(ReadEvents((*writer)->path()).size(), 2u);
}

TEST_F(TensorboardTest, AFileInTheWayIsAnError) {
  ASSERT_TRUE(WriteFileAtomically(folder_, "a file").ok());
  EXPECT_FALSE(SummaryWriter::Create(folder_, 0).ok());
}

}  // namespace
}  // namespace muster
