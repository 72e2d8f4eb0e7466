#include "master/status_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::master {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

template <typename T>
T RoundTrip(const T& line) {
  const std::string text = EncodeStatusLine(line);
  EXPECT_THAT(text, Not(HasSubstr("\n")));
  const auto read = DecodeStatusLine(text);
  EXPECT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(std::holds_alternative<T>(*read)) << text;
  EXPECT_EQ(EncodeStatusLine(*read), text);
  return std::get<T>(*read);
}

TEST(StatusLineTest, EveryKindComesBack) {
  EXPECT_EQ(RoundTrip(ListeningLine{"127.0.0.1:43567"}).address, "127.0.0.1:43567");

  const auto state = RoundTrip(StateLine{RunState::kFailed, "two\nlines \"quoted\""});
  EXPECT_EQ(state.state, RunState::kFailed);
  EXPECT_EQ(state.text, "two\nlines \"quoted\"");

  const auto progress = RoundTrip(ProgressLine{.step = 40,
                                               .total_steps = 18'000,
                                               .loss = 1.5,
                                               .samples_per_second = 812.5,
                                               .lagging = {{"worker", 3, 2, 4000}}});
  EXPECT_EQ(progress.step, 40);
  EXPECT_EQ(progress.loss, 1.5);
  EXPECT_FALSE(progress.validation_accuracy.has_value());
  ASSERT_EQ(progress.lagging.size(), 1u);
  EXPECT_EQ(progress.lagging[0].index, 3);
  EXPECT_EQ(progress.lagging[0].silent_ms, 4000);

  const auto replica = RoundTrip(ReplicaLine{"chief", 0, "READY", 4711, "here", "/cpu:0", ""});
  EXPECT_EQ(replica.pid, 4711);

  EXPECT_EQ(RoundTrip(MessageLine{MessageLine::Level::kWarning, "3 files skipped"}).level,
            MessageLine::Level::kWarning);

  const auto result = RoundTrip(ResultLine{.step = 18'000,
                                           .test_accuracy = 0.96,
                                           .confusion = "a b\nc d",
                                           .model_path = "/j/export/model.onnx"});
  EXPECT_EQ(result.test_accuracy, 0.96);
  EXPECT_EQ(result.confusion, "a b\nc d");
}

TEST(StatusLineTest, WhatTheUserGaveIsWrongOnlyBeforeTraining) {
  const absl::Status absent = absl::NotFoundError("DIR: no such folder");
  const StateLine line = EndedBy(absent, /*training_began=*/false);
  EXPECT_EQ(line.state, RunState::kFailed);
  EXPECT_EQ(line.text, "DIR: no such folder");
  EXPECT_TRUE(line.wrong_input);
  EXPECT_TRUE(RoundTrip(line).wrong_input);
  EXPECT_FALSE(EndedBy(absent, /*training_began=*/true).wrong_input);
  EXPECT_FALSE(EndedBy(absl::UnavailableError("worker-0 is gone"), false).wrong_input);
  EXPECT_EQ(EndedBy(absl::CancelledError("interrupted"), true).state, RunState::kCancelled);
}

TEST(StatusLineTest, UnknownKindsAndFieldsAreTaken) {
  const auto kind = DecodeStatusLine(R"({"kind":"of a later build","x":1})");
  ASSERT_TRUE(kind.ok());
  EXPECT_TRUE(std::holds_alternative<UnknownLine>(*kind));
  const auto field = DecodeStatusLine(R"({"kind":"progress","step":4,"later":[1,2]})");
  ASSERT_TRUE(field.ok());
  EXPECT_EQ(std::get<ProgressLine>(*field).step, 4);
}

TEST(StatusLineTest, WhatIsWrongIsNamed) {
  EXPECT_FALSE(DecodeStatusLine("").ok());
  EXPECT_FALSE(DecodeStatusLine(R"({"kind":"prog)").ok());
  EXPECT_THAT(
      std::string(DecodeStatusLine(R"({"kind":"state","state":"DONE"})").status().message()),
      HasSubstr("state is \"DONE\""));
  EXPECT_THAT(std::string(DecodeStatusLine(R"({"kind":"progress","step":"x"})").status().message()),
              HasSubstr("step is \"x\""));
  EXPECT_THAT(std::string(DecodeStatusLine(R"({"kind":"listening"})").status().message()),
              HasSubstr("address is missing"));
}

}  // namespace
}  // namespace muster::master
