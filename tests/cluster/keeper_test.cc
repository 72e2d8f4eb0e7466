// A keeper's manners, against a launcher that says anything. Its roles are those of
// tests/e2e/detach_test.cc.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pwd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>
#include <tuple>

#include "telemetry/file.h"
#include "telemetry/time.h"
#include "tests/cluster/keeper_fixture.h"
#include "tests/cluster/metadata_service.h"

namespace muster::cluster {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

TEST_F(KeeperTest, WithoutARoleItEndsWithItsLauncher) {
  Node node;
  Begin(node);
  Open(node);
  EXPECT_TRUE(Next(node).has_opened());
  EXPECT_TRUE(KeeperLives());
  EXPECT_EQ(End(node), 0);
  EXPECT_TRUE(KeeperEnds());
}

// Whoever launches again at once is not told that the job still runs.
TEST_F(KeeperTest, ALauncherThatComesWhileItEndsFindsAnother) {
  Node first, second;
  Begin(first);
  Open(first);
  ASSERT_TRUE(Next(first).has_opened());
  const pid_t keeper = KeeperProcess();
  ASSERT_GT(keeper, 0);
  ASSERT_EQ(kill(keeper, SIGSTOP), 0);
  close(first.to);
  Begin(second);
  Open(second);
  poll(nullptr, 0, 200);
  ASSERT_EQ(kill(keeper, SIGCONT), 0);
  const NodeEvent event = Next(second);
  EXPECT_TRUE(event.has_opened()) << event.DebugString();
  EXPECT_NE(KeeperProcess(), keeper);
  close(first.from);
  EXPECT_EQ(ExitOf(first.pid), 0);
  EXPECT_EQ(End(second), 0);
}

TEST_F(KeeperTest, ToAttachWhereNothingRunsStartsNothing) {
  Node node;
  Begin(node);
  Open(node, /*attach=*/true);
  const NodeEvent event = Next(node);
  ASSERT_TRUE(event.has_opened());
  EXPECT_FALSE(event.opened().runs());
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/job"));
  EXPECT_EQ(End(node), 0);
}

// Logins may end whatever they have begun. What systemd is told, and that it need not hurry; a real
// one is that of tests/e2e/systemd_test.cc.
TEST_F(KeeperTest, WhereSystemdIsItIsAUnitOfItsOwnAndNoPartOfItsLogin) {
  namespace fs = std::filesystem;
  const std::string busctl = folder_.path() + "/busctl", told = folder_.path() + "/told";
  const std::string own = folder_.path() + "/own";
  options_.systemd = {.booted = folder_.path(), .linger = folder_.path(), .own = own};
  options_.environment = {"PATH=" + folder_.path() + ":/usr/bin:/bin"};
  fs::create_symlink("/bin/sleep", folder_.path() + "/worker");
  for (const bool will : {true, false}) {
    SCOPED_TRACE(will);
    fs::remove(told);
    std::ofstream(busctl) << fmt::format(
        "#!/bin/sh\necho \"$@\" >> {}\n{}\n", told,
        will ? "" : "echo 'Call failed: Access denied' >&2; exit 1");
    fs::permissions(busctl, fs::perms::owner_all);
    Node node;
    Begin(node);
    Open(node);
    NodeRequest start;
    start.mutable_start()->set_name("worker-0");
    start.mutable_start()->set_program("worker");
    start.mutable_start()->add_arguments("600");
    start.mutable_start()->set_log_path(folder_.path() + "/job/logs/worker-0.log");
    Say(node, start);
    std::string words;
    for (int i = 0; i < 200 && words.find("StartTransientUnit") == words.npos; ++i) {
      poll(nullptr, 0, 50);
      words = ReadFile(told).value_or("");
    }
    const size_t at = words.find("PIDs au 1 ");
    ASSERT_NE(at, std::string::npos) << words;
    const std::string pid = words.substr(at + 10, words.find(' ', at + 10) - at - 10);
    EXPECT_THAT(words, HasSubstr(fmt::format("StartTransientUnit ssa(sv)a(sa(sv)) muster-{}.scope "
                                             "fail 3 PIDs au 1 {} Description s Muster job in {}",
                                             pid, pid, folder_.path() + "/job")));
    const std::string children = fmt::format("/proc/{}/task/{}/children", pid, pid);
    if (will) {
      // But for busctl, until it is moved.
      for (int i = 0; i < 200 && !ReadFile(children)->empty(); ++i) poll(nullptr, 0, 50);
      EXPECT_THAT(*ReadFile(children), IsEmpty());
      std::ofstream(own) << fmt::format("0::/system.slice/muster-{}.scope\n", pid);
    }
    ASSERT_TRUE(Next(node).has_opened()) << "in any case";
    ASSERT_TRUE(Next(node).has_started());
    EXPECT_THAT(*ReadFile(children), Not(IsEmpty())) << "its roles are its children";
    const std::string noted = *ReadFile(folder_.path() + "/job/logs/keeper-0.log");
    if (will) {
      EXPECT_THAT(noted, Not(HasSubstr("no scope of systemd's")));
    } else {
      EXPECT_THAT(noted, HasSubstr("no scope of systemd's: Call failed: Access denied"));
    }
    End(node);
    EXPECT_TRUE(KeeperEnds());
  }
}

// Where it has no scope, its launcher must not leave it.
TEST_F(KeeperTest, ItsLauncherIsToldWhetherItEndsWithItsLogin) {
  const std::string busctl = folder_.path() + "/busctl";
  options_.systemd = {
      .booted = folder_.path(), .linger = folder_.path(), .own = folder_.path() + "/own"};
  options_.environment = {"PATH=" + folder_.path() + ":/usr/bin:/bin"};
  const std::string me = getpwuid(geteuid())->pw_name;
  for (const auto& [scope, logind, ends] : std::vector<std::tuple<bool, std::string, bool>>{
           {false, "b true\nas 1 \"another\"", true},
           {false, "b true\nas 2 \"another\" \"" + me + "\"", false},
           {false, "b false\nas 0", false},
           {false, "", false},
           {true, "b true\nas 0", false}}) {
    SCOPED_TRACE(logind);
    std::ofstream(busctl) << fmt::format(
        "#!/bin/sh\ncase \"$*\" in *KillUserProcesses*) echo '{}';; *) echo \"$8\" > {}/own; exit "
        "{};; esac\n",
        logind, folder_.path(), scope ? 0 : 1);
    std::filesystem::permissions(busctl, std::filesystem::perms::owner_all);
    Node node;
    Begin(node);
    Open(node);
    const NodeEvent event = Next(node);
    ASSERT_TRUE(event.has_opened());
    EXPECT_EQ(event.opened().ends_with_login(), ends);
    End(node);
    EXPECT_TRUE(KeeperEnds());
  }
}

TEST_F(KeeperTest, ASecondLauncherIsToldWhoTheFirstIsAndCannotEndItsJob) {
  Node first, second;
  Begin(first);
  Open(first);
  ASSERT_TRUE(Next(first).has_opened());
  Begin(second);
  Open(second, /*attach=*/true);
  NodeRequest end;
  end.mutable_end();
  Say(second, end);
  EXPECT_THAT(Next(second).error().text(), HasSubstr("process 12 on host h since now follows"));
  End(second);
  EXPECT_TRUE(KeeperLives());
  NodeRequest list;
  list.mutable_list();
  Say(first, list);
  EXPECT_TRUE(Next(first).has_files()) << "the first is not disturbed";
  EXPECT_EQ(End(first), 0);
}

TEST_F(KeeperTest, AMachineThatIsTakenBackHasItsRolesLeaveAndTheLauncherKnow) {
  MetadataService service;
  options_.metadata = service.address();
  options_.notice_pause_ms = 20;
  std::filesystem::create_symlink("/bin/sleep", folder_.path() + "/worker");
  Node node;
  Begin(node);
  Open(node, /*attach=*/false, "AWS");
  ASSERT_TRUE(Next(node).has_opened());
  NodeRequest start;
  start.mutable_start()->set_role(2);
  start.mutable_start()->set_name("worker-1");
  start.mutable_start()->set_program("worker");
  start.mutable_start()->add_arguments("600");
  start.mutable_start()->set_log_path(folder_.path() + "/job/logs/worker-1.log");
  Say(node, start);
  EXPECT_EQ(Next(node).started().role(), 2);
  service.SetNotice(R"({"action": "terminate", "time": "2026-11-22T05:02:00Z"})");
  NodeEvent event;
  while (!(event = Next(node)).has_machine_ends()) {
    ASSERT_TRUE(event.has_activity());
  }
  EXPECT_EQ(FormatTime(event.machine_ends().ends_ms()), "2026-11-22T05:02:00.000Z");
  while (!(event = Next(node)).has_exited()) {
    ASSERT_TRUE(event.has_activity()) << "it is told once";
  }
  EXPECT_EQ(event.exited().role(), 2);
  EXPECT_EQ(event.exited().signal(), SIGTERM);
  EXPECT_EQ(End(node), 0);
  EXPECT_TRUE(KeeperEnds());
}

TEST_F(KeeperTest, OneThatBeginsWithItsHostGivesItBackWhenNobodyComes) {
  options_.first_ms = 300;
  EXPECT_EQ(ExitOf(BeginWithHost()), 0);
}

TEST_F(KeeperTest, OneThatBeginsWithItsHostWaitsForWhoeverOpensTheJob) {
  const pid_t keeper = BeginWithHost();
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(KeeperLives()) << "which comes and goes without a word";
    poll(nullptr, 0, 50);
  }
  Node node;
  Begin(node);
  Open(node);
  EXPECT_TRUE(Next(node).has_opened());
  EXPECT_EQ(KeeperProcess(), keeper);
  EXPECT_EQ(End(node), 0);
  EXPECT_EQ(ExitOf(keeper), 0);
}

TEST_F(KeeperTest, OneThatCannotBeginSaysWhy) {
  std::ofstream(folder_.path() + "/job") << "a file";
  ::testing::internal::CaptureStderr();
  const pid_t keeper = fork();
  if (keeper == 0) _exit(ServeKeeper(options_, folder_.path() + "/job", 0));
  EXPECT_EQ(ExitOf(keeper), 1);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr(folder_.path() + "/job"));
}

TEST_F(KeeperTest, BeforeAJobIsOpenNothingElseIsDone) {
  for (const bool role : {true, false}) {
    Node node;
    Begin(node);
    NodeRequest request;
    if (role) {
      request.mutable_start()->set_program("master");
    } else {
      request.mutable_get()->set_path("../secret");
    }
    Say(node, request);
    EXPECT_THAT(Next(node).error().text(), HasSubstr("no job is open"));
    EXPECT_EQ(End(node), 2);
  }
}

TEST_F(KeeperTest, WhatIsOutsideOfTheJobsFolderIsRefused) {
  std::vector<NodeRequest> requests(4);
  requests[0].mutable_get()->set_path("../secret");
  requests[1].mutable_get()->set_path("/etc/passwd");
  requests[2].mutable_start()->set_program("../../bin/sh");
  requests[2].mutable_start()->set_log_path(folder_.path() + "/job/logs/x.log");
  requests[3].mutable_start()->set_program("master");
  requests[3].mutable_start()->set_log_path(folder_.path() + "/job/../x.log");
  for (const NodeRequest& request : requests) {
    Node node;
    Begin(node);
    Open(node);
    ASSERT_TRUE(Next(node).has_opened());
    Say(node, request);
    EXPECT_THAT(Next(node).error().text(), HasSubstr("outside of"));
    End(node);
  }
}

TEST_F(KeeperTest, AnyBytesEndInARefusal) {
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  signal(SIGPIPE, SIG_IGN);
  for (int round = 0; round < 20; ++round) {
    Node node;
    Begin(node);
    if (round % 2) {
      Open(node);
      ASSERT_TRUE(Next(node).has_opened());
    }
    std::string bytes;
    for (unsigned i = 0; i < 1 + random() % 4; ++i) {
      const uint32_t size = random() % 64;
      bytes.append(reinterpret_cast<const char*>(&size), sizeof(size));
      for (uint32_t k = 0; k < size; ++k) bytes += static_cast<char>(random());
    }
    (void)!write(node.to, bytes.data(), bytes.size());
    End(node);
    EXPECT_TRUE(KeeperEnds());
  }
}

}  // namespace
}  // namespace muster::cluster
