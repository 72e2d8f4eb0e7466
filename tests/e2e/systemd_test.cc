// Jobs on a host whose first process is systemd, and whose logind ends what a login leaves behind.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "tests/e2e/programs.h"
#include "tests/e2e/ssh_hosts.h"

namespace muster::e2e {
namespace {

using master::RunState;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class SystemdTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!hosts_.problem().empty()) GTEST_SKIP() << hosts_.problem();
  }
  std::vector<std::string> Words(const std::string& folder, const std::string& user, int steps,
                                 const std::vector<std::string>& more) const {
    TinyJob job;
    job.workers = job.servers = 1;
    job.steps = steps;
    job.evaluate_every = job.save_every = 100;
    job.cluster = hosts_.ClusterAs(user);
    std::vector<std::string> words = LaunchWords(folder, job);
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  // Users that are logged in, but for whoever asks.
  void AwaitLogouts() const {
    for (int i = 0; i < 200; ++i) {
      if (hosts_.On(0, "loginctl list-sessions --no-legend | grep -vc root") == "0\n") return;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    FAIL() << hosts_.On(0, "loginctl list-sessions");
  }

  const SshHosts hosts_{1, NewFolder("hosts"), /*systemd=*/true};
};

TEST_F(SystemdTest, AJobOfOneWhoLingersIsAUnitThatOutlivesTheLogin) {
  const std::string folder = NewFolder("stays"), job = folder + "/job";
  const Ended left = RunToEnd(Words(folder, "stays", 400'000, {"--async"}));
  ASSERT_EQ(left.code, 0) << left.out << left.err;
  AwaitLogouts();
  EXPECT_THAT(hosts_.On(0, "ps -o cgroup= -C master,worker"),
              AllOf(HasSubstr("/user@"), HasSubstr("/muster-"), Not(HasSubstr("session-"))));
  EXPECT_THAT(hosts_.On(0, "systemctl --user -M stays@ list-units --no-legend --plain muster-*"),
              HasSubstr("running Muster job in /home/stays/.muster/jobs/job"));
  const Ended cancelled = RunToEnd({"launch", "jobs", "cancel", job});
  EXPECT_EQ(cancelled.code, 130) << cancelled.out << cancelled.err;
  EXPECT_EQ(StateOf(job).state, RunState::kCancelled);
  EXPECT_EQ(hosts_.On(0, "ps -o comm= -C master,worker"), "");
}

TEST_F(SystemdTest, ALauncherThatIsKilledLeavesRootsJobInAScope) {
  const std::string folder = NewFolder("root"), job = folder + "/job";
  {
    Running run(Words(folder, "root", 400'000, {"--max-running-time", "600s"}));
    ASSERT_TRUE(run.WaitFor("/400,000")) << run.out();
    run.Signal(SIGKILL);
    run.Wait();
  }
  std::this_thread::sleep_for(std::chrono::seconds(2));
  EXPECT_THAT(hosts_.On(0, "ps -o cgroup= -C master,worker"),
              AllOf(HasSubstr("/system.slice/muster-"), Not(HasSubstr("session-"))));
  EXPECT_EQ(RunToEnd({"launch", "jobs", "cancel", job}).code, 130);
  EXPECT_EQ(StateOf(job).state, RunState::kCancelled);
}

TEST_F(SystemdTest, AJobThatWouldEndWithItsLoginIsNotLeft) {
  const std::string folder = NewFolder("goes");
  const Ended refused = RunToEnd(Words(folder, "goes", 400'000, {"--async"}));
  EXPECT_EQ(refused.code, 2) << refused.out << refused.err;
  EXPECT_THAT(refused.err,
              AllOf(HasSubstr(hosts_.address(0)), HasSubstr("loginctl enable-linger")));
  AwaitLogouts();
  EXPECT_EQ(hosts_.On(0, "ps -o comm= -C master,worker"), "");
  // Followed to its end it is like any other.
  const Ended run = RunToEnd(Words(NewFolder("whole"), "goes", 200, {}));
  EXPECT_EQ(run.code, 0) << run.out << run.err;
}

}  // namespace
}  // namespace muster::e2e
