// The keeper's socket and manners, against a launcher that says anything. Its roles are those of
// tests/e2e/detach_test.cc.
#include "cluster/keeper.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>

#include "cluster/keeper_socket.h"
#include "cluster/node.pb.h"
#include "cluster/node_relay.h"
#include "cluster/node_wire.h"
#include "master/status_line.h"
#include "telemetry/file.h"
#include "telemetry/time.h"
#include "tests/cluster/metadata_service.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

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

// A launcher's end of `launch node` in a process of its own.
class KeeperTest : public ::testing::Test {
 protected:
  struct Node {
    int to = -1, from = -1;
    pid_t pid = -1;
    FrameReader reader;
    std::vector<NodeEvent> events;
  };
  void Begin(Node& node) {
    int in[2], out[2];
    ASSERT_EQ(pipe2(in, O_CLOEXEC), 0);
    ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
    node.pid = fork();
    if (node.pid == 0) {
      // As sshd does: nothing else is open, and the way there is 0 and 1.
      dup2(in[0], 0);
      dup2(out[1], 1);
      for (int fd = 3; fd < 1000; ++fd) close(fd);
      _exit(ServeNode(options_));
    }
    close(in[0]);
    close(out[1]);
    node.to = in[1];
    node.from = out[0];
  }
  void Say(Node& node, const NodeRequest& request) {
    const std::string frame = EncodeFrame(request);
    ASSERT_EQ(write(node.to, frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));
  }
  void Open(Node& node, bool attach = false, const std::string& notices_of = "") {
    NodeRequest request;
    request.mutable_open()->set_notices_of(notices_of);
    request.mutable_open()->set_directory(folder_.path() + "/job");
    request.mutable_open()->set_lock(true);
    request.mutable_open()->set_attach(attach);
    request.mutable_open()->set_launcher("process 12 on host h since now");
    Say(node, request);
  }
  // The next event that is no Hello; one without a kind at the end.
  NodeEvent Next(Node& node) {
    for (;;) {
      while (!node.events.empty()) {
        NodeEvent event = node.events.front();
        node.events.erase(node.events.begin());
        if (!event.has_hello()) return event;
      }
      const auto state = node.reader.Read(node.from, [&](std::string_view frame) {
        node.events.emplace_back().ParseFromArray(frame.data(), static_cast<int>(frame.size()));
        return absl::OkStatus();
      });
      if (!state.ok() || *state == FrameReader::State::kEnd) {
        if (node.events.empty()) return {};
      }
    }
  }
  int End(Node& node) {
    close(node.to);
    while (Next(node).kind_case() != NodeEvent::KIND_NOT_SET) {
    }
    close(node.from);
    int status = 0;
    waitpid(node.pid, &status, 0);
    return WEXITSTATUS(status);
  }
  // One of a rented host, whose master ends half a second after it has begun.
  void LeaveAMaster(int64_t until_in_ms) {
    std::filesystem::create_symlink("/bin/sleep", folder_.path() + "/master");
    Node first;
    Begin(first);
    NodeRequest open, start, leave;
    open.mutable_open()->set_directory(folder_.path() + "/job");
    open.mutable_open()->set_lock(true);
    open.mutable_open()->set_rented(true);
    open.mutable_open()->set_kept(kept_);
    Say(first, open);
    ASSERT_TRUE(Next(first).has_opened());
    start.mutable_start()->set_name("master-0");
    start.mutable_start()->set_program("master");
    start.mutable_start()->add_arguments("0.5");
    start.mutable_start()->set_is_master(true);
    start.mutable_start()->set_log_path(folder_.path() + "/job/logs/master-0.log");
    Say(first, start);
    EXPECT_TRUE(Next(first).has_started());
    leave.mutable_leave()->set_until_in_ms(until_in_ms);
    Say(first, leave);
    while (!Next(first).has_left()) {
    }
    End(first);
  }
  // Leaves a job whose master says that it trains, and then neither finishes a step nor anything
  // else, until it is told; waits for its end.
  void LeaveOneThatTrains(NodeRequest open, const NodeRequest& leave) {
    const std::string line = folder_.path() + "/line", master = folder_.path() + "/master";
    std::ofstream(line) << master::EncodeStatusLine(
                               master::StateLine{master::RunState::kRunning, ""})
                        << "\n";
    std::ofstream(master) << fmt::format("#!/bin/sh\ncat {} >&{}\nexec sleep 600\n", line,
                                         master::kStatusFd);
    std::filesystem::permissions(master, std::filesystem::perms::owner_all);
    Node node;
    Begin(node);
    open.mutable_open()->set_directory(folder_.path() + "/job");
    open.mutable_open()->set_lock(true);
    Say(node, open);
    ASSERT_TRUE(Next(node).has_opened());
    NodeRequest start;
    start.mutable_start()->set_name("master-0");
    start.mutable_start()->set_program("master");
    start.mutable_start()->set_is_master(true);
    start.mutable_start()->set_log_path(folder_.path() + "/job/logs/master-0.log");
    Say(node, start);
    while (!Next(node).has_status()) {
    }
    Say(node, leave);
    while (!Next(node).has_left()) {
    }
    End(node);
    EXPECT_TRUE(KeeperEnds());
  }
  bool KeeperLives() const {
    const auto name = KeeperName(folder_.path() + "/job", 0);
    if (!name.ok()) return false;
    const auto fd = ConnectToKeeper(*name);
    if (fd.ok()) close(*fd);
    return fd.ok();
  }
  // One that begins with its host, in a process of its own.
  pid_t BeginWithHost() {
    const pid_t keeper = fork();
    if (keeper == 0) _exit(ServeKeeper(options_, folder_.path() + "/job", 0));
    for (int i = 0; i < 200 && !KeeperLives(); ++i) poll(nullptr, 0, 50);
    return keeper;
  }
  static int ExitOf(pid_t process) {
    int status = 0;
    waitpid(process, &status, 0);
    return WEXITSTATUS(status);
  }
  // It ends a moment after its launcher has heard of it for the last time.
  bool KeeperEnds() const {
    for (int i = 0; i < 200 && KeeperLives(); ++i) poll(nullptr, 0, 50);
    return !KeeperLives();
  }

  const harness::TemporaryFolder folder_;
  bool kept_ = false;  // OpenJob's
  NodeOptions options_{.program_dir = folder_.path(), .home = folder_.path()};
};

TEST_F(KeeperTest, WithoutARoleItEndsWithItsLauncher) {
  Node node;
  Begin(node);
  Open(node);
  EXPECT_TRUE(Next(node).has_opened());
  EXPECT_TRUE(KeeperLives());
  EXPECT_EQ(End(node), 0);
  EXPECT_TRUE(KeeperEnds());
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

// Logins may end whatever they have begun. Of systemd's itself there is none in tests: what it is
// told.
TEST_F(KeeperTest, WhereSystemdIsItIsAUnitOfItsOwnAndNoPartOfItsLogin) {
  namespace fs = std::filesystem;
  const std::string busctl = folder_.path() + "/busctl", told = folder_.path() + "/told";
  options_.systemd = {.booted = folder_.path(), .linger = folder_.path()};
  options_.environment = {"PATH=" + folder_.path() + ":/usr/bin:/bin"};
  fs::create_symlink("/bin/sleep", folder_.path() + "/worker");
  for (const bool will : {true, false}) {
    SCOPED_TRACE(will);
    fs::remove(told);
    std::ofstream(busctl) << fmt::format(
        "#!/bin/sh\necho \"$@\" > {}\n{}\n", told,
        will ? "exit 0" : "echo 'Call failed: Access denied' >&2; exit 1");
    fs::permissions(busctl, fs::perms::owner_all);
    Node node;
    Begin(node);
    Open(node);
    ASSERT_TRUE(Next(node).has_opened()) << "in any case";
    NodeRequest start;
    start.mutable_start()->set_name("worker-0");
    start.mutable_start()->set_program("worker");
    start.mutable_start()->add_arguments("600");
    start.mutable_start()->set_log_path(folder_.path() + "/job/logs/worker-0.log");
    Say(node, start);
    ASSERT_TRUE(Next(node).has_started());
    const std::string words = *ReadFile(told);
    const size_t at = words.find("PIDs au 1 ");
    ASSERT_NE(at, std::string::npos) << words;
    const std::string pid = words.substr(at + 10, words.find(' ', at + 10) - at - 10);
    EXPECT_THAT(words, HasSubstr(fmt::format("StartTransientUnit ssa(sv)a(sa(sv)) muster-{}.scope "
                                             "fail 3 PIDs au 1 {} Description s Muster job in {}",
                                             pid, pid, folder_.path() + "/job")));
    // Its roles are its children.
    EXPECT_THAT(*ReadFile(fmt::format("/proc/{}/task/{}/children", pid, pid)), Not(IsEmpty()));
    const std::string noted = *ReadFile(folder_.path() + "/job/logs/keeper-0.log");
    EXPECT_EQ(noted.find("no scope of systemd's: Call failed: Access denied") != noted.npos, !will);
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

TEST_F(KeeperTest, AJobThatWasLeftIsEndedByWhomItIsOpenToAlone) {
  std::filesystem::create_symlink("/bin/sleep", folder_.path() + "/ps");
  Node first;
  Begin(first);
  Open(first);
  ASSERT_TRUE(Next(first).has_opened());
  NodeRequest start, leave, end;
  start.mutable_start()->set_role(3);
  start.mutable_start()->set_name("ps-0");
  start.mutable_start()->set_program("ps");
  start.mutable_start()->add_arguments("600");
  start.mutable_start()->set_log_path(folder_.path() + "/job/logs/ps-0.log");
  Say(first, start);
  EXPECT_EQ(Next(first).started().role(), 3);
  leave.mutable_leave();
  Say(first, leave);
  while (!Next(first).has_left()) {
  }
  End(first);
  end.mutable_end();

  Node launch;
  Begin(launch);
  Open(launch);
  Say(launch, end);
  EXPECT_THAT(Next(launch).error().text(), HasSubstr("launch attach"));
  End(launch);
  EXPECT_TRUE(KeeperLives());

  Node attach;
  Begin(attach);
  Open(attach, /*attach=*/true);
  const NodeEvent started = Next(attach);
  EXPECT_EQ(started.started().name(), "ps-0");
  EXPECT_TRUE(Next(attach).opened().runs());
  Say(attach, end);
  End(attach);
  EXPECT_TRUE(KeeperEnds());
}

// A master that has ended by itself: what it has written is kept for whoever comes, on a host that
// is given back.
TEST_F(KeeperTest, ResultsOnARentedHostWaitForSomebodyWhoFetchesThem) {
  LeaveAMaster(/*until_in_ms=*/600'000);
  // Whoever attaches hears of the end, and that nothing runs any more.
  bool runs = true;
  for (int i = 0; i < 200 && runs; ++i) {
    poll(nullptr, 0, 50);
    Node attach;
    Begin(attach);
    Open(attach, /*attach=*/true);
    NodeEvent event = Next(attach);
    while (!event.has_opened() && event.kind_case() != NodeEvent::KIND_NOT_SET) {
      event = Next(attach);
    }
    ASSERT_TRUE(event.has_opened());
    runs = event.opened().runs();
    End(attach);
  }
  EXPECT_FALSE(runs);
  EXPECT_TRUE(KeeperLives());
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/.muster-ends"));

  Node fetch;
  Begin(fetch);
  Open(fetch);
  ASSERT_TRUE(Next(fetch).has_opened());
  NodeRequest list, end;
  list.mutable_list();
  Say(fetch, list);
  EXPECT_TRUE(Next(fetch).has_files());
  end.mutable_end();
  Say(fetch, end);
  End(fetch);
  EXPECT_TRUE(KeeperEnds());
  EXPECT_TRUE(std::filesystem::exists(folder_.path() + "/.muster-ends")) << "the watchdog's word";
}

TEST_F(KeeperTest, AndTheyWaitNoLongerThanTheJobWasToBeLeft) {
  LeaveAMaster(/*until_in_ms=*/1);
  EXPECT_TRUE(KeeperEnds());
  EXPECT_TRUE(std::filesystem::exists(folder_.path() + "/.muster-ends"));
}

TEST_F(KeeperTest, OneThatBeginsWithItsHostIsWaitedForAndHoldsNoFinishedJobForLong) {
  options_.fetch_ms = 1'500;
  kept_ = true;
  // The launcher is there first.
  const pid_t late = fork();
  if (late == 0) {
    poll(nullptr, 0, 500);
    _exit(ExitOf(BeginWithHost()));
  }
  LeaveAMaster(/*until_in_ms=*/600'000);
  EXPECT_TRUE(KeeperLives());
  const int64_t began = MonotonicMillis();
  EXPECT_EQ(ExitOf(late), 0);
  EXPECT_LT(MonotonicMillis() - began, 300'000) << "not as long as the launcher has said";
  EXPECT_FALSE(std::filesystem::exists(folder_.path() + "/.muster-ends")) << "it may be shared";
}

TEST_F(KeeperTest, OneThatBeginsWithItsHostGivesItBackWhenNobodyComes) {
  options_.first_ms = 300;
  EXPECT_EQ(ExitOf(BeginWithHost()), 0);
}

TEST_F(KeeperTest, OneThatCannotBeginSaysWhy) {
  std::ofstream(folder_.path() + "/job") << "a file";
  ::testing::internal::CaptureStderr();
  const pid_t keeper = fork();
  if (keeper == 0) _exit(ServeKeeper(options_, folder_.path() + "/job", 0));
  EXPECT_EQ(ExitOf(keeper), 1);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr(folder_.path() + "/job"));
}

TEST_F(KeeperTest, AJobThatWasLeftAndDoesNothingIsEndedInOrder) {
  NodeRequest open, leave;
  open.mutable_open()->set_busy_below(1);  // whatever else this machine does
  open.mutable_open()->set_idle_ms(1'000);
  leave.mutable_leave();
  LeaveOneThatTrains(open, leave);
  EXPECT_THAT(*ReadFile(folder_.path() + "/job/logs/keeper-0.log"),
              HasSubstr("no machine was busier than 100 % for 1 s (cluster.idle)"));
}

TEST_F(KeeperTest, AJobThatWasLeftIsEndedInOrderWhenItsBudgetIsUsedUp) {
  NodeRequest open, leave;
  leave.mutable_leave()->set_stop_in_ms(1);
  leave.mutable_leave()->set_stop_reason("the budget is\nused up");
  LeaveOneThatTrains(open, leave);
  EXPECT_THAT(*ReadFile(folder_.path() + "/job/logs/keeper-0.log"),
              ::testing::AllOf(::testing::ContainsRegex("the budget is.+used up"),
                               HasSubstr("the master is asked to finish the step")));
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
