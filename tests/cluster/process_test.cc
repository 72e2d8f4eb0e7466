#include "cluster/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "cluster/lifeline.h"
#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ProcessTest : public ::testing::Test {
 protected:
  ProcessSpec Shell(const std::string& script) {
    return {.name = "shell",
            .argv = {"/bin/sh", "-c", script},
            .environment = {"A=1", "B=x y"},
            .log_path = folder_ + "/log"};
  }
  static ExitStatus Wait(Process& process) {
    pollfd fd{process.pidfd(), POLLIN, 0};
    EXPECT_EQ(poll(&fd, 1, 60'000), 1);
    const auto exit = process.Poll();
    EXPECT_TRUE(exit.has_value());
    return exit.value_or(ExitStatus());
  }
  ExitStatus Run(const ProcessSpec& spec) {
    auto process = Process::Start(spec);
    EXPECT_TRUE(process.ok()) << process.status();
    return Wait(**process);
  }
  std::string Log() { return *ReadFile(folder_ + "/log"); }

  const harness::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path();
};

TEST_F(ProcessTest, OutputAndErrorsAreAppendedToTheLog) {
  std::ofstream(folder_ + "/log") << "earlier\n";
  EXPECT_TRUE(Run(Shell("echo out; echo err >&2")).ok());
  EXPECT_EQ(Log(), "earlier\nout\nerr\n");
}

TEST_F(ProcessTest, TheEnvironmentIsExactlyWhatIsGiven) {
  ProcessSpec spec = Shell("");
  spec.argv = {"/usr/bin/env"};
  EXPECT_TRUE(Run(spec).ok());
  EXPECT_EQ(Log(), "A=1\nB=x y\n");
}

TEST_F(ProcessTest, TheWayItEndedIsKnown) {
  EXPECT_EQ(DescribeExit(Run(Shell("exit 3"))), "exited with code 3");
  EXPECT_EQ(DescribeExit(Run(Shell("kill -9 $$"))), "was killed by signal 9 (Killed)");
}

TEST_F(ProcessTest, OnlyTheGivenDescriptorsArePassedOn) {
  const int stray = open("/dev/null", O_RDONLY | O_CLOEXEC);
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  ProcessSpec spec = Shell("echo hello >&3; ls /proc/self/fd");
  // Crossed: each target is the other's source.
  const int low = fcntl(fds[1], F_DUPFD_CLOEXEC, 3);
  spec.fds = {{low, 3}, {fds[0], 4}};
  EXPECT_TRUE(Run(spec).ok());
  char buffer[16];
  EXPECT_EQ(read(fds[0], buffer, sizeof(buffer)), 6);
  EXPECT_EQ(Log(), "0\n1\n2\n3\n4\n5\n");  // 5 is ls's own
  for (const int fd : {stray, low, fds[0], fds[1]}) close(fd);
}

TEST_F(ProcessTest, BlockedAndIgnoredSignalsAreNotInherited) {
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigprocmask(SIG_BLOCK, &set, &old);
  const auto old_handler = std::signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(Run(Shell("kill -TERM $$")).signal, SIGTERM);
  EXPECT_EQ(Run(Shell("kill -PIPE $$")).signal, SIGPIPE);
  std::signal(SIGPIPE, old_handler);
  sigprocmask(SIG_SETMASK, &old, nullptr);
}

TEST_F(ProcessTest, AProgramThatCannotBeExecutedIsAnErrorAtOnce) {
  ProcessSpec spec = Shell("");
  spec.argv = {folder_ + "/none"};
  const auto process = Process::Start(spec);
  EXPECT_THAT(std::string(process.status().message()),
              HasSubstr("cannot start shell: " + folder_ + "/none: No such file"));
}

TEST_F(ProcessTest, WhatAChildHasStartedDiesWithIt) {
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  ProcessSpec spec = Shell("sleep 1000 & exit 0");
  spec.fds = {{fds[1], 3}};
  EXPECT_TRUE(Run(spec).ok());
  close(fds[1]);
  // The grandchild held the other end: it is gone when this reads the end of the pipe.
  char byte;
  EXPECT_EQ(read(fds[0], &byte, 1), 0);
  close(fds[0]);
}

TEST_F(ProcessTest, DestroyingTheHandleKillsTheChild) {
  int fds[2];
  ASSERT_EQ(pipe2(fds, O_CLOEXEC), 0);
  ProcessSpec spec = Shell("sleep 1000");
  spec.fds = {{fds[1], 3}};
  {
    auto process = Process::Start(spec);
    ASSERT_TRUE(process.ok());
    EXPECT_FALSE((*process)->Poll().has_value());
  }
  close(fds[1]);
  char byte;
  EXPECT_EQ(read(fds[0], &byte, 1), 0);
  close(fds[0]);
}

TEST_F(ProcessTest, ALogThatHasGrownLargeIsMovedAside) {
  std::ofstream(folder_ + "/log") << "old";
  std::filesystem::resize_file(folder_ + "/log", (64 << 20) + 1);
  EXPECT_TRUE(Run(Shell("echo new")).ok());
  EXPECT_EQ(Log(), "new\n");
  EXPECT_TRUE(std::filesystem::exists(folder_ + "/log.1"));
}

TEST_F(ProcessTest, LastLinesAreThoseOfThisRun) {
  const std::string path = folder_ + "/log";
  std::ofstream(path) << "old\none\n\ntwo\nthree";
  EXPECT_THAT(LastLines(path, 4, 10), ElementsAre("one", "two", "three"));
  EXPECT_THAT(LastLines(path, 4, 2), ElementsAre("two", "three"));
  EXPECT_THAT(LastLines(path, 400, 1), ElementsAre("three"));
  EXPECT_THAT(LastLines(folder_ + "/none", 0, 1), IsEmpty());
}

TEST_F(ProcessTest, AHugeLogIsReadFromItsEnd) {
  const std::string path = folder_ + "/log";
  std::ofstream(path) << std::string(1 << 20, 'x') << "\nlast\n";
  EXPECT_THAT(LastLines(path, 0, 1), ElementsAre("last"));
}

TEST(LifelineTest, WithoutALauncherThereIsNothingToHold) {
  EXPECT_TRUE(StartLifeline(nullptr).ok());
}

TEST(LifelineTest, WhatIsNoPipeIsAnError) {
  const int file = open("/dev/null", O_RDONLY);
  for (const std::string& text : {std::string(), std::string("x"), std::string("4x"),
                                  std::string("900"), std::to_string(file)}) {
    EXPECT_THAT(std::string(StartLifeline(text.c_str()).message()), HasSubstr("no open pipe"))
        << text;
  }
  close(file);
}

}  // namespace
}  // namespace muster::cluster
