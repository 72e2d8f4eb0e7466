// Why a job that nobody follows has ended, and what is written of it.
#include "cluster/end_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>

#include "master/job_directory.h"
#include "master/job_state.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using master::RunState;
using ::testing::HasSubstr;

constexpr int64_t kNowMs = 1'800'000'000'000;

class EndRecordTest : public ::testing::Test {
 protected:
  void Told(RunState said) {
    master::JobState state;
    state.state = said;
    ASSERT_TRUE(master::CreateJobDirectory(dir_).ok());
    ASSERT_TRUE(master::WriteJobState(dir_.state_json(), state).ok());
  }
  // What state.json holds after Write.
  master::JobState Written(const EndRecord& record) {
    const auto reason = record.Write(dir_.root(), kNowMs);
    EXPECT_TRUE(reason.ok()) << reason.status();
    const auto state = master::ReadJobState(dir_.state_json());
    EXPECT_TRUE(state.ok()) << state.status();
    if (!reason->empty()) {
      EXPECT_EQ(state->error_message, *reason);
    }
    return *state;
  }

  const harness::TemporaryFolder folder_;
  const master::JobDirectory dir_{folder_.path() + "/job"};
};

TEST_F(EndRecordTest, AJobGoesOnWithoutWorkersThatWereKilledOrAreSaidToBeGone) {
  const ExitStatus killed{.signal = SIGKILL}, failed{.code = 3}, crashed{.signal = SIGSEGV};
  EndRecord record;
  EXPECT_TRUE(record.OnExit("worker-0", killed));
  EXPECT_EQ(record.reason(), "");
  record.OnReplica({.role = "worker", .index = 1, .state = "LEFT"});
  EXPECT_TRUE(record.OnExit("worker-1", failed));
  EXPECT_FALSE(record.OnExit("worker-1", crashed)) << "its own fault";
  EXPECT_THAT(record.reason(), HasSubstr("worker-1 was killed by signal 11"));
  record.OnReplica({.role = "worker", .index = 1, .state = "READY"});
  EXPECT_FALSE(record.OnExit("worker-1", failed)) << "it has come back";
  EXPECT_FALSE(record.OnExit("ps-0", killed));
  EXPECT_THAT(record.reason(), HasSubstr("worker-1")) << "the first counts";
}

TEST_F(EndRecordTest, WhatTheMasterHasNotWrittenIs) {
  Told(RunState::kRunning);
  EndRecord record;
  record.OnExit("ps-0", {.code = 3});
  const master::JobState state = Written(record);
  EXPECT_EQ(state.state, RunState::kFailed);
  EXPECT_EQ(state.end_ms, kNowMs);
  EXPECT_EQ(state.error_message, "ps-0 exited with code 3");
  Told(RunState::kRunning);
  EXPECT_EQ(Written(EndRecord()).error_message, "its roles ended without a word");
}

TEST_F(EndRecordTest, WhatTheMasterSaysStaysButForTheReasonOfAnEndFromHere) {
  EndRecord record;
  record.Stop("the budget is used up");
  Told(RunState::kSucceeded);
  EXPECT_EQ(Written(record).error_message, "");
  Told(RunState::kCancelled);
  EXPECT_EQ(Written(EndRecord()).error_message, "") << "not by this keeper";
  const master::JobState state = Written(record);
  EXPECT_EQ(state.state, RunState::kCancelled);
  EXPECT_EQ(state.error_message, "the budget is used up");
}

TEST_F(EndRecordTest, WithoutARecordThereIsAnError) {
  EXPECT_FALSE(EndRecord().Write(dir_.root(), kNowMs).ok());
}

}  // namespace
}  // namespace muster::cluster
