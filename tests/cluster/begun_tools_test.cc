// Commands that are begun before somebody asks for their answers.
#include "cluster/begun_tools.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

constexpr int64_t kPatienceMs = 30'000;

class BegunToolsTest : public ::testing::Test {
 protected:
  static std::vector<std::string> Sh(const std::string& script) { return {"sh", "-c", script}; }
  std::string Path(const std::string& name) const { return here_.path() + "/" + name; }

  const harness::TemporaryFolder here_;
  const std::vector<std::string> environment_ = {"PATH=/usr/bin:/bin"};
};

TEST_F(BegunToolsTest, WhatWasBegunRunsAtOnce) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  BegunTools tools(environment_);
  // Each ends only when the other runs, too.
  const auto reads = Sh("cat " + Path("pipe")), writes = Sh("echo hello >" + Path("pipe"));
  tools.Begin(reads);
  tools.Begin(writes);
  const auto read = tools.Run(reads, kPatienceMs, "");
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->out, "hello\n");
  EXPECT_EQ(tools.Run(writes, kPatienceMs, "")->code, 0);
}

TEST_F(BegunToolsTest, NoMoreThanSoManyAtATime) {
  BegunTools tools(environment_, /*at_once=*/1);
  const auto first = Sh(fmt::format("sleep 0.2; ls {}", Path("later"))),
             later = Sh("touch " + Path("later"));
  tools.Begin(first);
  tools.Begin(later);
  EXPECT_EQ(tools.Run(later, kPatienceMs, "")->code, 0) << "its turn comes without the first's";
  EXPECT_NE(tools.Run(first, kPatienceMs, "")->code, 0) << "it was there too early";
}

TEST_F(BegunToolsTest, EachAnswerIsGivenOnce) {
  BegunTools tools(environment_);
  const auto counts = Sh(fmt::format("echo x >>{0}; wc -l <{0}", Path("count")));
  tools.Begin(counts);
  tools.Begin(counts);
  EXPECT_EQ(tools.Run(counts, kPatienceMs, "")->out, "1\n");
  EXPECT_EQ(tools.Run(counts, kPatienceMs, "")->out, "2\n") << "runs again";
  EXPECT_EQ(tools.Run(Sh("cat"), kPatienceMs, "what it reads")->out, "what it reads");
}

TEST_F(BegunToolsTest, OnesThatAreNotThereOrDoNotEnd) {
  BegunTools tools(environment_);
  tools.Begin({"no-such-tool"});
  tools.Begin({"sleep", "600"});
  tools.Begin(Sh("kill -9 $$"));
  EXPECT_TRUE(absl::IsNotFound(tools.Run({"no-such-tool"}, kPatienceMs, "").status()));
  EXPECT_EQ(tools.Run(Sh("kill -9 $$"), kPatienceMs, "")->code, 128 + 9);
  EXPECT_TRUE(absl::IsDeadlineExceeded(tools.Run({"sleep", "600"}, 100, "").status()));
}

}  // namespace
}  // namespace muster::cluster
