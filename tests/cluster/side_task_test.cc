// A function in a process of its own: what it says arrives line by line, and it ends with its
// owner.
#include "cluster/side_task.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>

namespace muster::cluster {
namespace {

using ::testing::ElementsAre;

// Until it has said `lines` lines, or has ended.
bool Await(SideTask& task, size_t lines, std::vector<std::string>* said) {
  for (;;) {
    if (!task.Read([&](const std::string& line) { said->push_back(line); })) return false;
    if (said->size() >= lines) return true;
    pollfd fd{task.fd(), POLLIN, 0};
    poll(&fd, 1, -1);
  }
}

TEST(SideTask, WhatItTellsArrivesLineByLine) {
  const std::string captured = "captured";
  auto task = SideTask::Start([&](const SideTask::Tell& tell) {
    tell("first");
    tell(captured);
    tell(std::string(100'000, 'x'));
  });
  ASSERT_TRUE(task.ok()) << task.status();
  std::vector<std::string> said;
  EXPECT_FALSE(Await(**task, 9, &said));
  EXPECT_THAT(said, ElementsAre("first", "captured", std::string(100'000, 'x')));
}

TEST(SideTask, HasOnlyTheDescriptorsThatItIsGiven) {
  int given[2], other[2];
  ASSERT_EQ(pipe(given), 0);
  ASSERT_EQ(pipe(other), 0);
  auto task = SideTask::Start(
      [&](const SideTask::Tell& tell) {
        tell(fcntl(given[1], F_GETFD) >= 0 ? "open" : "closed");
        tell(fcntl(other[1], F_GETFD) >= 0 ? "open" : "closed");
      },
      {given[1]});
  ASSERT_TRUE(task.ok()) << task.status();
  std::vector<std::string> said;
  EXPECT_FALSE(Await(**task, 9, &said));
  EXPECT_THAT(said, ElementsAre("open", "closed"));
  for (const int fd : {given[0], given[1], other[0], other[1]}) close(fd);
}

TEST(SideTask, EndsWithItsOwner) {
  auto task = SideTask::Start([](const SideTask::Tell& tell) {
    tell(std::to_string(getpid()));
    for (;;) pause();
  });
  ASSERT_TRUE(task.ok()) << task.status();
  std::vector<std::string> said;
  ASSERT_TRUE(Await(**task, 1, &said));
  const pid_t child = std::stoi(said[0]);
  EXPECT_EQ(kill(child, 0), 0);
  task->reset();
  EXPECT_NE(kill(child, 0), 0);
}

}  // namespace
}  // namespace muster::cluster
