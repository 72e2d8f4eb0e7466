// The socket of a keeper: one for each folder and place, for its user alone.
#include "cluster/keeper_socket.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

TEST(KeeperSocket, ThereIsOneAtMostAndNothingIsLeft) {
  const harness::TemporaryFolder folder;
  const std::string name = *KeeperName(folder.path(), 0);
  EXPECT_TRUE(absl::IsNotFound(ConnectToKeeper(name).status()));
  const auto listener = ListenAsKeeper(name);
  ASSERT_TRUE(listener.ok());
  EXPECT_TRUE(absl::IsAlreadyExists(ListenAsKeeper(name).status()));
  const auto end = ConnectToKeeper(name);
  ASSERT_TRUE(end.ok());
  EXPECT_GE(AcceptOwn(*listener), 0);
  close(*listener);
  EXPECT_TRUE(absl::IsNotFound(ConnectToKeeper(name).status()));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(KeeperSocket, AStrangerIsRefusedAtBothEnds) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
  const harness::TemporaryFolder folder;
  const std::string name = *KeeperName(folder.path(), 1);
  const auto listener = ListenAsKeeper(name);
  ASSERT_TRUE(listener.ok());
  const auto as_nobody = [](auto action) {
    const pid_t child = fork();
    if (child == 0) _exit(setuid(65534) == 0 && action() ? 0 : 1);
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status) == 0;
  };
  EXPECT_TRUE(as_nobody([&] { return absl::IsPermissionDenied(ConnectToKeeper(name).status()); }));
  EXPECT_EQ(AcceptOwn(*listener), -1) << "it came, and is sent away";
  close(*listener);
}

}  // namespace
}  // namespace muster::cluster
