#include "cluster/bucket.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "cluster/mirror.h"

namespace muster::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Answers all alike, and remembers what it was asked.
struct Tools {
  std::vector<std::string> asked;
  ToolResult answer;
  std::function<void()> on_ask = [] {};

  ToolRunner runner() {
    return [this](const std::vector<std::string>& words, int64_t, const std::string&) {
      asked.push_back(fmt::format("{}", fmt::join(words, " ")));
      on_ask();
      return absl::StatusOr<ToolResult>(answer);
    };
  }
  Patience patience = {.now_ms = [] { return int64_t{0}; }, .pause = [](int64_t) { return true; }};
};

TEST(Address, IsOfABucketAndAPathInIt) {
  for (const char* good : {"s3://b/x", "gs://b-1.c/x/y_z/", "s3://b/a=1/b@2,c+d~e"}) {
    EXPECT_TRUE(IsAddress(good));
    EXPECT_TRUE(CheckAddress(good).ok()) << good;
  }
  for (const char* bad :
       {"s3://", "s3:///x", "s3://b", "gs://b/", "gs://b//x", "gs://b/./x", "s3://b/../c",
        "s3://b/x y", "s3://b/$(id)", "s3://b/\n", "file:///etc", "http://b/x", "S3://b/x"}) {
    EXPECT_TRUE(IsAddress(bad));
    EXPECT_FALSE(CheckAddress(bad).ok()) << bad;
  }
  EXPECT_FALSE(IsAddress("jobs/s3"));
}

TEST(Bucket, AddsBeforeItRemoves) {
  Tools tools;
  EXPECT_TRUE(Bucket("s3://b/x/", tools.runner(), tools.patience).Send("/job").ok());
  EXPECT_TRUE(Bucket("gs://b/x", tools.runner(), tools.patience).Send("/job").ok());
  EXPECT_THAT(
      tools.asked,
      ElementsAre("aws s3 sync --only-show-errors /job s3://b/x --exclude lock --exclude *.tmp.* "
                  "--exclude logs/coming/*",
                  "aws s3 sync --only-show-errors /job s3://b/x --exclude lock --exclude *.tmp.* "
                  "--exclude logs/coming/* --delete",
                  "gcloud storage rsync --recursive /job gs://b/x "
                  R"(--exclude=lock$,.*\.tmp\.,logs/coming/,.*_\.gstmp$)",
                  "gcloud storage rsync --recursive /job gs://b/x "
                  R"(--exclude=lock$,.*\.tmp\.,logs/coming/,.*_\.gstmp$ )"
                  "--delete-unmatched-destination-objects"));
}

TEST(Bucket, WhatFailsRemovesNothing) {
  Tools tools;
  tools.answer = {.err = "fatal error: An error occurred (AccessDenied)\n", .code = 1};
  const absl::Status sent = Bucket("s3://b/x", tools.runner(), tools.patience).Send("/job");
  EXPECT_THAT(std::string(sent.message()), HasSubstr("AccessDenied"));
  EXPECT_EQ(tools.asked.size(), 1U);
}

TEST(Sender, SendsUntilItsLauncherHasClosedThePipe) {
  Tools tools;
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  tools.answer.code = 1;  // the first time; later all is well
  tools.on_ask = [&] {
    if (tools.asked.size() > 1) tools.answer.code = 0;
    if (tools.asked.size() == 5) close(pipe_ends[1]);
  };
  const Bucket bucket("s3://b/x", tools.runner(), tools.patience);
  EXPECT_TRUE(SendWhileOpen(bucket, "/job", pipe_ends[0], /*pause_ms=*/1).ok());
  EXPECT_EQ(tools.asked.size(), 5U) << "what it has begun it ends";
  close(pipe_ends[0]);
}

}  // namespace
}  // namespace muster::cluster
