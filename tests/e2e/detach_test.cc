// Jobs that outlive their launcher: on hosts that ssh reaches, and on this machine.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <random>
#include <thread>

#include "tests/e2e/programs.h"
#include "tests/e2e/ssh_hosts.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;
using master::RunState;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kModel = "/job/export/model.onnx";

std::vector<std::string> With(std::vector<std::string> words,
                              const std::vector<std::string>& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

Ended Launch(const std::vector<std::string>& words) {
  Ended ended = RunToEnd(With({"launch"}, words));
  ExpectForHumans(ended);
  return ended;
}

// The program on a terminal of its own.
class OnTerminal {
 public:
  explicit OnTerminal(std::vector<std::string> words) {
    words[0] = fmt::format("{}/{}", std::getenv("MUSTER_BIN"), words[0]);
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    winsize size{.ws_row = 40, .ws_col = 200};
    pid_ = forkpty(&fd_, nullptr, nullptr, &size);
    if (pid_ == 0) {
      setenv("TERM", "xterm", 1);
      setenv("MUSTER_HOME", NewFolder("home").c_str(), 1);
      execv(pointers[0], pointers.data());
      _exit(127);
    }
  }
  ~OnTerminal() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      Wait();
    }
  }
  OnTerminal(const OnTerminal&) = delete;
  OnTerminal& operator=(const OnTerminal&) = delete;

  // Reads up to `text`, which the program says from now on.
  bool WaitFor(const std::string& text) {
    while (said_.find(text, seen_) == std::string::npos) {
      if (!Read()) return false;
    }
    seen_ = said_.find(text, seen_) + text.size();
    return true;
  }
  void Type(const std::string& keys) const {
    ASSERT_EQ(write(fd_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  int Wait() {
    while (Read()) {
    }
    close(fd_);
    int status = 0;
    waitpid(std::exchange(pid_, -1), &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  const std::string& said() const { return said_; }

 private:
  bool Read() {
    pollfd wait{fd_, POLLIN, 0};
    if (poll(&wait, 1, 60'000) == 0) {
      ADD_FAILURE() << "silent after:\n" << said_;
      return false;
    }
    char buffer[4096];
    const ssize_t n = read(fd_, buffer, sizeof(buffer));
    if (n > 0) said_.append(buffer, static_cast<size_t>(n));
    return n > 0;
  }

  pid_t pid_ = -1;
  int fd_ = -1;
  std::string said_;
  size_t seen_ = 0;
};

class DetachTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!hosts_.problem().empty()) GTEST_SKIP() << hosts_.problem();
  }
  // Two workers and two servers: with the master five machines on three hosts.
  TinyJob Job(int steps) const {
    TinyJob job;
    job.workers = 2;
    job.servers = 2;
    job.steps = steps;
    job.evaluate_every = job.save_every = 100;
    job.cluster = hosts_.Cluster();
    return job;
  }
  // What the hosts run of the job in `folder`, by role.
  std::map<std::string, pid_t> Roles() const { return RolesOf(there_); }
  // Starts the job and leaves it.
  void Leave(const std::string& folder, const TinyJob& job,
             const std::vector<std::string>& more = {}) {
    const Ended left = RunToEnd(With(LaunchWords(folder, job), With({"--async"}, more)));
    ASSERT_EQ(left.code, 0) << left.out << left.err;
    ExpectForHumans(left);
    EXPECT_THAT(left.out,
                AllOf(HasSubstr("the job goes on, ends by 20"), HasSubstr("launch attach job"),
                      HasSubstr("launch jobs cancel job")));
    ASSERT_THAT(Roles(), ::testing::SizeIs(6));
  }
  // What all is compared with: a run that nobody left.
  std::string Whole(int steps) {
    const std::string folder = NewFolder("whole");
    TinyJob job = Job(steps);
    job.cluster = "";
    const Ended run = RunToEnd(LaunchWords(folder, job));
    EXPECT_EQ(run.code, 0) << run.err;
    return folder;
  }
  void ExpectSame(const std::string& a, const std::string& b, int steps) {
    for (const std::string& path :
         {std::string(kModel), fmt::format("/job/checkpoints/step-{}/ps-0.safetensors", steps),
          fmt::format("/job/checkpoints/step-{}/ps-1.safetensors", steps)}) {
      EXPECT_TRUE(Contents(a + path) == Contents(b + path)) << path;
    }
  }

  const SshHosts hosts_{3, NewFolder("hosts")};
  const std::string there_ = hosts_.node_folder() + "/jobs/job";
};

TEST_F(DetachTest, AJobThatIsLeftAndFollowedAgainLearnsTheSame) {
  const std::string whole = Whole(800), folder = NewFolder("left"), job = folder + "/job";
  Leave(folder, Job(800));
  EXPECT_THAT(Launch({"jobs", "describe", job}).out, ContainsRegex("state +DETACHED"));
  Running again({"launch", "attach", job});
  EXPECT_TRUE(again.WaitFor("RUNNING")) << again.out();
  // While it is followed, this machine knows how far it is.
  EXPECT_THAT(Launch({"jobs", "describe", job}).out, ContainsRegex("state +(RUNNING|PREPARING)"));
  const Ended ended = again.Wait();
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_EQ(ended.err, "");
  ExpectForHumans(ended);
  EXPECT_THAT(ended.out, HasSubstr(job + "/export/model.onnx"));
  EXPECT_EQ(StateOf(job).state, RunState::kSucceeded);
  ExpectSame(folder, whole, 800);
  for (const auto& [role, host] :
       std::map<std::string, int>{{"master-0", 0}, {"worker-0", 1}, {"worker-1", 2}, {"ps-0", 0}}) {
    const std::string log = fmt::format("/logs/{}.log", role);
    EXPECT_EQ(Contents(job + log), hosts_.On(host, "cat " + there_ + log)) << role;
  }
  hosts_.ExpectQuiet();
}

TEST_F(DetachTest, AKilledLauncherIsNoLossAtWhateverMomentItDies) {
  const std::string whole = Whole(600);
  const unsigned seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 4; ++round) {
    const std::string folder = NewFolder("killed"), job = folder + "/job";
    const std::vector<std::string> words =
        With(LaunchWords(folder, Job(600)), {"--max-running-time", "600s"});
    {
      Running run(words);
      std::this_thread::sleep_for(std::chrono::milliseconds(random() % 2500));
      run.Signal(SIGKILL);
      run.Wait();
    }
    for (int i = 0;; ++i) {
      ASSERT_LT(i, 5) << "seed " << seed;
      if (fs::exists(job + "/job.yaml")) {
        const Ended attached = Launch({"attach", job});
        if (attached.code == 0) break;
        EXPECT_THAT(attached.err, Not(HasSubstr("follows the job"))) << "its launcher is gone";
      }
      // It died before all roles were there: the same command begins anew.
      const Ended run = RunToEnd(words);
      if (run.code == 0) break;
      EXPECT_THAT(run.err, HasSubstr("launch attach")) << "what is left of it is about to end";
    }
    hosts_.ExpectQuiet();
    ExpectSame(folder, whole, 600);
    for (int host = 0; host < 3; ++host) hosts_.On(host, "rm -rf " + there_);
  }
}

TEST_F(DetachTest, TheTimeIsUpAlsoWhenNobodyWatches) {
  const std::string folder = NewFolder("deadline"), job = folder + "/job";
  Leave(folder, Job(1'000'000), {"--max-running-time", "3s"});
  hosts_.ExpectQuiet();
  const Ended told = Launch({"attach", job});
  EXPECT_EQ(told.code, 1);
  EXPECT_THAT(told.out,
              AllOf(HasSubstr("CANCELLED at step"), HasSubstr("the running time of 3 s is over")));
  const master::JobState state = StateOf(job);
  EXPECT_EQ(state.state, RunState::kCancelled);
  ASSERT_TRUE(state.last_checkpoint.has_value());
  EXPECT_EQ(state.last_checkpoint->step, state.step);
  hosts_.ExpectQuiet();
}

TEST_F(DetachTest, ARoleThatDiesUnwatchedEndsTheJobWithItsReason) {
  for (const std::string role : {"ps-0", "master-0"}) {
    SCOPED_TRACE(role);
    const std::string folder = NewFolder("died"), job = folder + "/job";
    Leave(folder, Job(1'000'000));
    kill(Roles().at(role), SIGKILL);
    hosts_.ExpectQuiet();
    const Ended told = Launch({"attach", job});
    EXPECT_EQ(told.code, 1);
    EXPECT_THAT(told.err, ContainsRegex("^error: .*" + role));
    EXPECT_EQ(StateOf(job).state, RunState::kFailed);
    EXPECT_THAT(StateOf(job).error_message, HasSubstr(role));
    EXPECT_THAT(Contents(job + "/logs/worker-0.log"), HasSubstr("worker-0 I device"));
    hosts_.ExpectQuiet();
  }
}

TEST_F(DetachTest, AWorkerThatIsKilledUnwatchedIsMadeUpForByTheOthers) {
  const std::string folder = NewFolder("spared"), job = folder + "/job";
  Leave(folder, Job(1'000'000));
  kill(Roles().at("worker-1"), SIGKILL);
  Running attached({"launch", "attach", job});
  ASSERT_TRUE(attached.WaitFor("validation")) << attached.out();
  attached.Signal(SIGINT);
  const Ended ended = attached.Wait();
  EXPECT_EQ(ended.code, 130) << ended.out << ended.err;
  const master::JobState state = StateOf(job);
  EXPECT_EQ(state.state, RunState::kCancelled);
  ASSERT_TRUE(state.last_checkpoint.has_value());
  EXPECT_EQ(state.last_checkpoint->step, state.step);
  hosts_.ExpectQuiet();
}

TEST_F(DetachTest, OneLauncherAtATimeAndAnyMachineWithTheDirectory) {
  const std::string folder = NewFolder("several"), job = folder + "/job";
  Leave(folder, Job(1'000'000));
  // Another machine: it has a copy of the directory, and knows of no job.
  const std::string copy = NewFolder("elsewhere") + "/copy";
  fs::copy(job, copy, fs::copy_options::recursive);
  Running elsewhere({"launch", "attach", copy}, /*unprivileged=*/false,
                    {{"MUSTER_HOME", NewFolder("other_home")}});
  ASSERT_TRUE(elsewhere.WaitFor("step ")) << elsewhere.out();
  const Ended second = Launch({"attach", job});
  EXPECT_EQ(second.code, 2);
  EXPECT_THAT(second.err, HasSubstr(fmt::format("process {} on host", elsewhere.pid())));
  // Nor does a launch that takes it for a new one disturb it.
  EXPECT_EQ(RunToEnd(LaunchWords(folder, Job(1'000'000))).code, 2);
  EXPECT_THAT(Roles(), ::testing::SizeIs(6));
  elsewhere.Signal(SIGKILL);
  elsewhere.Wait();
  EXPECT_THAT(Roles(), ::testing::SizeIs(6));
  const Ended over = RunToEnd(LaunchWords(folder, Job(1'000'000)));
  EXPECT_EQ(over.code, 2);
  EXPECT_THAT(over.err, HasSubstr("launch attach"));
  EXPECT_THAT(Roles(), ::testing::SizeIs(6));
  const Ended cancelled = Launch({"jobs", "cancel", job});
  EXPECT_EQ(cancelled.code, 130) << cancelled.out << cancelled.err;
  hosts_.ExpectQuiet();
  EXPECT_EQ(StateOf(job).state, RunState::kCancelled);
  EXPECT_EQ(StateOf(job).last_checkpoint->step, StateOf(job).step);
}

TEST_F(DetachTest, AShellOfARolesHostIsOneCommandAway) {
  const std::string folder = NewFolder("shell"), job = folder + "/job";
  Leave(folder, Job(1'000'000));
  for (const auto& [role, host] :
       std::map<std::string, int>{{"master-0", 0}, {"worker-0", 1}, {"ps-1", 1}}) {
    const Ended said =
        Launch({"ssh", job, role, "--", "sh", "-c", "echo \"it's $SSH_CONNECTION\""});
    EXPECT_EQ(said.code, 0) << said.err;
    EXPECT_THAT(said.out, ContainsRegex("^it's .* " + hosts_.address(host) + " 22\n$"));
  }
  EXPECT_EQ(
      Launch({"ssh", job, "ps-0", "-L", folder + "/socket:127.0.0.1:1", "--", "exit", "7"}).code,
      7);
  const Ended wrong = Launch({"ssh", job, "worker-9"});
  EXPECT_EQ(wrong.code, 2);
  EXPECT_THAT(wrong.err, ContainsRegex("^the job has no role 'worker-9'[^\n]*\n$"));
  EXPECT_EQ(Launch({"jobs", "cancel", job}).code, 130);
  hosts_.ExpectQuiet();
}

TEST_F(DetachTest, AnEditedJobFileIsNoticed) {
  const std::string folder = NewFolder("edited"), job = folder + "/job";
  Leave(folder, Job(1'000'000));
  std::string text = Contents(job + "/job.yaml");
  const std::string whole = text;
  text.replace(text.find("workerCount: 2"), 14, "workerCount: 1");
  WriteText(job + "/job.yaml", text);
  const Ended refused = Launch({"attach", job});
  EXPECT_EQ(refused.code, 2);
  EXPECT_THAT(refused.err, HasSubstr("job.yaml does not describe the job that runs on"));
  EXPECT_THAT(Roles(), ::testing::SizeIs(6));
  WriteText(job + "/job.yaml", whole);
  EXPECT_EQ(Launch({"jobs", "cancel", job}).code, 130);
  hosts_.ExpectQuiet();
}

TEST_F(DetachTest, AKilledKeeperTakesItsRolesAlongAndIsNamed) {
  const std::string kill_launch =
      "for p in $(ip netns pids $(ip netns identify $$)); do [ $(cat /proc/$p/comm) = launch ] && "
      "{ [ {} ] || kill -9 $p; }; done";
  for (const bool keeper : {true, false}) {
    SCOPED_TRACE(keeper ? "keeper" : "relay");
    Running run(LaunchWords(NewFolder("keeper"), Job(1'000'000)));
    ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
    // The keeper leads no session, and its parent is init.
    const std::string parent =
        "$(cut -d\" \" -f4 /proc/$p/stat) " + std::string(keeper ? "!=" : "=") + " 1";
    std::string script = kill_launch;
    script.replace(script.find("{}"), 2, parent);
    hosts_.On(1, script);
    const Ended ended = run.Wait();
    EXPECT_EQ(ended.code, 1) << ended.out;
    EXPECT_THAT(ended.err, HasSubstr(hosts_.address(1)));
    ExpectForHumans(ended);
    hosts_.ExpectQuiet();
  }
}

TEST_F(DetachTest, ALauncherThatLosesTheWayLeavesTheJobWhichMayGoOn) {
  const std::string folder = NewFolder("cut"), job = folder + "/job";
  Running run(With(LaunchWords(folder, Job(1'000'000)), {"--max-running-time", "600s"}));
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  // The launcher's connections alone, as when a laptop changes its network: the sshd that each
  // relay is a child of.
  for (int host = 0; host < 3; ++host) {
    hosts_.On(host,
              "for p in $(ip netns pids $(ip netns identify $$)); do parent=$(cut -d\" \" -f4 "
              "/proc/$p/stat); [ $(cat /proc/$p/comm) = launch ] && { [ $parent = 1 ] || kill -9 "
              "$parent; }; done");
  }
  const Ended left = run.Wait();
  EXPECT_EQ(left.code, 1) << left.out;
  EXPECT_THAT(left.err, HasSubstr("error: host 10."));
  EXPECT_THAT(left.out, HasSubstr("launch attach job"));
  ExpectForHumans(left);
  EXPECT_THAT(Roles(), ::testing::SizeIs(6));
  EXPECT_EQ(Launch({"jobs", "cancel", job}).code, 130);
  hosts_.ExpectQuiet();
  EXPECT_EQ(StateOf(job).state, RunState::kCancelled);
}

TEST_F(DetachTest, CtrlCOnATerminalAsks) {
  const std::string folder = NewFolder("asks"), job = folder + "/job";
  std::vector<std::string> words = LaunchWords(folder, Job(1'000'000));
  {
    OnTerminal run(words);
    ASSERT_TRUE(run.WaitFor("RUNNING")) << run.said();
    ASSERT_TRUE(run.WaitFor("samples/s")) << run.said();
    run.Type("\x03");
    ASSERT_TRUE(run.WaitFor("d: detach (the job goes on, ends by")) << run.said();
    run.Type("x\n");
    ASSERT_TRUE(run.WaitFor("going on"));
    run.Type("\x03");
    ASSERT_TRUE(run.WaitFor("d: detach"));
    run.Type("d\n");
    EXPECT_EQ(run.Wait(), 0) << run.said();
    EXPECT_THAT(run.said(), HasSubstr("launch attach job"));
  }
  EXPECT_THAT(Roles(), ::testing::SizeIs(6));
  OnTerminal again({"launch", "attach", job});
  ASSERT_TRUE(again.WaitFor("samples/s")) << again.said();
  again.Type("\x03");
  ASSERT_TRUE(again.WaitFor("d: detach"));
  again.Type("\x03");
  ASSERT_TRUE(again.WaitFor("saving a checkpoint")) << again.said();
  EXPECT_EQ(again.Wait(), 130);
  hosts_.ExpectQuiet();
  EXPECT_EQ(StateOf(job).state, RunState::kCancelled);
}

TEST(DetachHere, AJobOfThisMachineCanBeLeftToo) {
  const std::string folder = NewFolder("here"), job = folder + "/job", whole = NewFolder("whole");
  const TinyJob tiny = {
      .workers = 2, .servers = 1, .steps = 1000, .evaluate_every = 100, .save_every = 100};
  ASSERT_EQ(RunToEnd(LaunchWords(whole, tiny)).code, 0);
  const Ended left = RunToEnd(With(LaunchWords(folder, tiny), {"--async", "--job-id", "here"}));
  ASSERT_EQ(left.code, 0) << left.err;
  EXPECT_THAT(RolesOf(job), ::testing::SizeIs(5));
  while (StateOf(job).state == RunState::kPreparing) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_THAT(Launch({"jobs", "list"}).out, ContainsRegex("here +LOCAL +RUNNING "));
  // The directory is in use, as that of any run.
  const Ended second = RunToEnd(LaunchWords(folder, tiny));
  EXPECT_EQ(second.code, 2);
  EXPECT_THAT(second.err, HasSubstr("is in use by process"));
  const Ended attached = Launch({"attach", "here"});
  EXPECT_EQ(attached.code, 0) << attached.out << attached.err;
  EXPECT_TRUE(Contents(folder + kModel) == Contents(whole + kModel));
  EXPECT_THAT(RolesOf(job), IsEmpty());
  // Once it has ended there is nothing to follow, but something to tell.
  const Ended after = Launch({"attach", "here"});
  EXPECT_EQ(after.code, 0);
  EXPECT_THAT(after.out, HasSubstr("SUCCEEDED at step 1000 of 1000"));
}

TEST(DetachHere, CancelEndsAJobThatWasLeft) {
  const std::string folder = NewFolder("cancel"), job = folder + "/job";
  const TinyJob tiny = {
      .workers = 1, .servers = 1, .steps = 1'000'000, .evaluate_every = 100, .save_every = 100};
  ASSERT_EQ(RunToEnd(With(LaunchWords(folder, tiny), {"--async", "--job-id", "left"})).code, 0);
  const auto roles = RolesOf(job);
  EXPECT_EQ(Launch({"jobs", "cancel", "left"}).code, 0);
  EXPECT_TRUE(AwaitEnd(roles));
  EXPECT_EQ(StateOf(job).state, RunState::kCancelled);
  EXPECT_EQ(StateOf(job).last_checkpoint->step, StateOf(job).step);
}

TEST(DetachHere, WithoutAsyncAJobOfThisMachineEndsWithItsLauncher) {
  const std::string folder = NewFolder("plain"), job = folder + "/job";
  const TinyJob tiny = {
      .workers = 1, .servers = 1, .steps = 1'000'000, .evaluate_every = 100, .save_every = 100};
  Running run(With(LaunchWords(folder, tiny), {"--max-running-time", "600s"}));
  ASSERT_TRUE(run.WaitFor("RUNNING"));
  const auto roles = RolesOf(job);
  run.Signal(SIGKILL);
  run.Wait();
  EXPECT_TRUE(AwaitEnd(roles));
}

}  // namespace
}  // namespace muster::e2e
