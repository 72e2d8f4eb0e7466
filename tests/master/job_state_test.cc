#include "master/job_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/harness/temporary_folder.h"

namespace muster::master {
namespace {

using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

JobState NineWorkers() {
  JobState state;
  state.job_id = "speech_20261121";
  state.state = RunState::kRunning;
  state.create_ms = 1'795'242'600'000;
  state.start_ms = 1'795'242'601'000;
  state.update_ms = 1'795'242'662'500;
  state.step = 400;
  state.total_steps = 18'000;
  state.metrics.train_loss = 0.75;
  state.metrics.samples_per_second = 1234.5;
  state.replicas.push_back({.role = "master", .index = 0, .pids = {100, 101}, .state = "READY"});
  for (int i = 0; i < 9; ++i) {
    state.replicas.push_back({.role = "worker",
                              .index = i,
                              .pids = {200 + i},
                              .state = "READY",
                              .last_seen_ms = 1'795'242'662'000,
                              .host = "here",
                              .device = "/cpu:0: 1 thread",
                              .leases = {i + 1},
                              .step = 400 + i});
  }
  for (int i = 0; i < 3; ++i)
    state.replicas.push_back({.role = "ps", .index = i, .pids = {300 + i}});
  state.last_checkpoint = CheckpointSummary{"checkpoints/step-400", 400, 0.875};
  state.resumed_from = 200;
  state.dollars_per_hour = 7.09;
  return state;
}

TEST(JobStateTest, EveryFieldComesBack) {
  const JobState state = NineWorkers();
  const auto read = DecodeJobState(EncodeJobState(state));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(EncodeJobState(*read), EncodeJobState(state));
  EXPECT_EQ(read->replicas.size(), 13u);
  EXPECT_EQ(read->replicas[0].pids, (std::vector<int64_t>{100, 101}));
  EXPECT_EQ(read->replicas[9].leases, std::vector<int32_t>{9});
  EXPECT_EQ(read->metrics.train_loss, 0.75);
  EXPECT_FALSE(read->metrics.test_accuracy.has_value());
  EXPECT_EQ(read->last_checkpoint->validation_accuracy, 0.875);
  EXPECT_FALSE(read->best_checkpoint.has_value());
  EXPECT_EQ(read->resumed_from, 200);
}

TEST(JobStateTest, TheTextHasTheDocumentedNames) {
  const std::string text = EncodeJobState(NineWorkers());
  for (const char* expected :
       {"\"schemaVersion\": 1", "\"state\": \"RUNNING\"", "\"step\": 400", "\"train_loss\": 0.75",
        "\"validation_accuracy\": null", "\"test_accuracy\": null",
        "\"samples_per_second\": 1234.5", "\"startTime\": \"2026-11-21T06:30:01.000Z\"",
        "\"endTime\": null", "\"lastSeen\": \"2026-11-21T06:31:02.000Z\""}) {
    EXPECT_THAT(text, HasSubstr(expected));
  }
}

TEST(JobStateTest, StatesHaveTheNamesOfTheTrainingContract) {
  for (const char* name :
       {"QUEUED", "PREPARING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLING", "CANCELLED"}) {
    const auto state = ParseRunState(name);
    ASSERT_TRUE(state.has_value()) << name;
    EXPECT_STREQ(RunStateName(*state), name);
    const std::string text(name);
    EXPECT_EQ(IsFinal(*state), text == "SUCCEEDED" || text == "FAILED" || text == "CANCELLED");
  }
  EXPECT_FALSE(ParseRunState("DONE").has_value());
}

TEST(JobStateTest, UnknownAndAbsentFieldsAreTaken) {
  const auto state = DecodeJobState(
      R"({"schemaVersion": 1, "state": "QUEUED", "soon": {"to": "come"}, "metrics": {"new": 1}})");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->state, RunState::kQueued);
  EXPECT_EQ(state->step, 0);
}

TEST(JobStateTest, WhatIsWrongIsNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "the text is empty"},
      {R"({"schemaVersion": 1, "state": "RUNN)", "not a whole JSON object"},
      {"[1]", "not a whole JSON object"},
      {R"({"state": "RUNNING"})", "schemaVersion is missing"},
      {R"({"schemaVersion": 1})", "state is missing"},
      {R"({"schemaVersion": 1, "state": "DONE"})", "state is \"DONE\"; it must be one of QUEUED, "},
      {R"({"schemaVersion": 2, "state": "RUNNING"})", "written by a newer Muster"},
      {R"({"schemaVersion": 1, "state": "RUNNING", "step": "4"})",
       "step is \"4\"; it must be a whole number"},
      {R"({"schemaVersion": 1, "state": "RUNNING", "endTime": "noon"})", "endTime is \"noon\""},
      {R"({"schemaVersion": 1, "state": "RUNNING", "metrics": {"train_loss": "low"}})",
       "metrics.train_loss is \"low\"; it must be a number"},
      {R"({"schemaVersion": 1, "state": "RUNNING", "replicas": [{"role": "ps", "index": 0}, {"role": 3, "index": 0}]})",
       "replicas[1].role is 3; it must be a text"},
  };
  for (const auto& [text, expected] : cases) {
    const auto state = DecodeJobState(text);
    ASSERT_FALSE(state.ok()) << text;
    EXPECT_THAT(Message(state.status()), HasSubstr(expected)) << text;
  }
}

TEST(JobStateTest, TextsThatAreNotUtf8AreWrittenAllTheSame) {
  JobState state;
  state.error_message = "a \xff byte and \"quotes\"";
  const auto read = DecodeJobState(EncodeJobState(state));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->error_message, HasSubstr("\"quotes\""));
}

TEST(JobStateTest, ANonFiniteLossIsNull) {
  JobState state;
  state.metrics.train_loss = std::numeric_limits<double>::quiet_NaN();
  const auto read = DecodeJobState(EncodeJobState(state));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_FALSE(read->metrics.train_loss.has_value());
}

TEST(JobStateTest, FilesAreReadWithTheirPathInErrors) {
  const harness::TemporaryFolder folder;
  const std::string path = folder.path() + "/state.json";
  ASSERT_TRUE(WriteJobState(path, NineWorkers()).ok());
  EXPECT_EQ(ReadJobState(path)->step, 400);
  std::ofstream(path) << "{";
  EXPECT_THAT(Message(ReadJobState(path).status()), HasSubstr(path));
  EXPECT_TRUE(absl::IsNotFound(ReadJobState(folder.path() + "/none").status()));
}

}  // namespace
}  // namespace muster::master
