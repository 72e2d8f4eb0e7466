// Other programs, run to their end.
#include "cluster/tool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::cluster {
namespace {

constexpr char kPath[] = "/usr/bin:/bin";
constexpr int64_t kPatienceMs = 30'000;

TEST(Tool, WhatItIsGivenAndWhatItSays) {
  // More than a pipe holds.
  const std::string input(1'000'000, 'x');
  const auto done =
      RunTool({"sh", "-c", "cat; echo late >&2; exit 3"}, {}, kPath, kPatienceMs, input);
  ASSERT_TRUE(done.ok()) << done.status();
  EXPECT_TRUE(done->out == input);
  EXPECT_EQ(done->err, "late\n");
  EXPECT_EQ(done->code, 3);
  // Without input it reads none, rather than the launcher's.
  EXPECT_EQ(RunTool({"cat"}, {}, kPath, kPatienceMs)->out, "");
}

TEST(Tool, OnesThatAreNotThereOrDoNotEnd) {
  EXPECT_TRUE(absl::IsNotFound(RunTool({"no-such-tool"}, {}, kPath, kPatienceMs).status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(RunTool({"sleep", "600"}, {}, kPath, 100).status()));
  EXPECT_EQ(RunTool({"sh", "-c", "kill -9 $$"}, {}, kPath, kPatienceMs)->code, 128 + 9);
}

}  // namespace
}  // namespace muster::cluster
