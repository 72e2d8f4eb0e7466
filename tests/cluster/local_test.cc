// The local provider with real processes: tests/cluster/fake_role.cc stands in for master, worker
// and ps.
#include "cluster/local.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>

#include "master/job_directory.h"
#include "master/job_state.h"
#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using master::RunState;
using ::testing::HasSubstr;
using ::testing::Not;

namespace fs = std::filesystem;

class LocalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(folder_ + "/bin");
    for (const char* program : {"master", "worker", "ps"}) {
      fs::create_symlink(FAKE_ROLE, folder_ + "/bin/" + program);
    }
    job_.job_id = "job_1";
    job_.job_dir = folder_ + "/job";
    job_.job_yaml = "jobId: job_1\n";
    job_.total_steps = 100;
    job_.roles = {{"master", 0, "master", 1, "trainingInput.masterType"},
                  {"chief", 0, "worker", 1, "training.chiefTrains"},
                  {"worker", 0, "worker", 1, "trainingInput.workerCount"},
                  {"worker", 1, "worker", 1, "trainingInput.workerCount"},
                  {"ps", 0, "ps", 1, "trainingInput.parameterServerCount"}};
    job_.tf.workers = 2;
    job_.tf.servers = 1;
    options_.program_dir = folder_ + "/bin";
  }
  void TearDown() override {
    if (launcher_ > 0) {
      kill(launcher_, SIGKILL);
      waitpid(launcher_, nullptr, 0);
    }
  }

  // Starts RunLocal in a process of its own, which is the launcher.
  void Launch(const std::map<std::string, std::string>& fake = {}) {
    options_.environment = {"FAKE_ROLES=" + std::to_string(job_.roles.size() - 1)};
    for (const auto& [name, value] : fake) options_.environment.push_back(name + "=" + value);
    int out[2];
    ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
    launcher_ = fork();
    ASSERT_GE(launcher_, 0);
    if (launcher_ == 0) {
      const int err = open((folder_ + "/err").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
      options_.out_fd = out[1];
      options_.err_fd = err;
      _exit(RunLocal(job_, options_));
    }
    close(out[1]);
    out_ = fdopen(out[0], "r");
  }

  // Reads the launcher's output up to a line with `text`; false when it ends first.
  bool WaitFor(const std::string& text) {
    char* line = nullptr;
    size_t size = 0;
    bool found = false;
    while (!found && getline(&line, &size, out_) > 0) {
      output_ += line;
      found = std::string(line).find(text) != std::string::npos;
    }
    free(line);
    return found;
  }

  // The launcher's exit code, once it has ended; -signal when it was killed.
  int Wait() {
    WaitFor("\x01 never");
    fclose(out_);
    int status = 0;
    waitpid(launcher_, &status, 0);
    launcher_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

  int Run(const std::map<std::string, std::string>& fake = {}) {
    Launch(fake);
    return Wait();
  }

  std::string Errors() { return *ReadFile(folder_ + "/err"); }
  master::JobState State() {
    const auto state = master::ReadJobState(job_.job_dir + "/state.json");
    EXPECT_TRUE(state.ok()) << state.status();
    return state.value_or(master::JobState());
  }
  std::string Log(const std::string& role) {
    return *ReadFile(job_.job_dir + "/logs/" + role + ".log");
  }

  // Processes whose command line or program lies in this test's folder. Zombies have no command
  // line.
  std::vector<pid_t> Roles() {
    std::vector<pid_t> pids;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string name = entry.path().filename().string();
      if (name.find_first_not_of("0123456789") != std::string::npos) continue;
      const auto command = ReadFile(entry.path().string() + "/cmdline");
      if (command.ok() && command->find(folder_ + "/bin/") == 0) pids.push_back(std::stoi(name));
    }
    return pids;
  }

  const harness::TemporaryFolder temporary_;
  const std::string folder_ = temporary_.path();
  LocalJob job_;
  LocalOptions options_;
  pid_t launcher_ = -1;
  FILE* out_ = nullptr;
  std::string output_;
};

TEST_F(LocalTest, ARunThatSucceedsEndsWithWhatItFound) {
  EXPECT_EQ(Run(), 0) << Errors();
  EXPECT_EQ(Errors(), "");
  EXPECT_THAT(output_, HasSubstr("RUNNING: training"));
  EXPECT_THAT(output_, HasSubstr("step 100/100 (100 %)"));
  EXPECT_THAT(output_, HasSubstr("test accuracy        96.5 %"));
  EXPECT_THAT(output_, HasSubstr("/m/model.onnx"));
  EXPECT_THAT(output_, HasSubstr("launch predict --job-dir " + job_.job_dir));
  EXPECT_TRUE(Roles().empty());
}

TEST_F(LocalTest, TheJobDirectoryIsComplete) {
  ASSERT_EQ(Run(), 0) << Errors();
  EXPECT_EQ(*ReadFile(job_.job_dir + "/job.yaml"), "jobId: job_1\n");
  EXPECT_TRUE(fs::exists(job_.job_dir + "/report.html"));
  const master::JobState state = State();
  EXPECT_EQ(state.state, RunState::kSucceeded);
  ASSERT_EQ(state.replicas.size(), 4u);  // the chief's process belongs to the master's entry
  EXPECT_EQ(state.replicas[0].role, "master");
  EXPECT_EQ(state.replicas[0].pids.size(), 2u);
  for (const master::ReplicaState& replica : state.replicas) {
    EXPECT_FALSE(replica.pids.empty());
    EXPECT_EQ(replica.state, "FINISHED");
  }
}

TEST_F(LocalTest, RolesGetTheirThreadsAndTheirPlaceInTheCluster) {
  job_.roles[3].threads = 7;
  ASSERT_EQ(Run(), 0) << Errors();
  EXPECT_THAT(Log("worker-1"), HasSubstr("device /cpu:0: 7 thread"));
  EXPECT_THAT(Log("worker-1"), HasSubstr(R"("task":{"type":"worker","index":1})"));
  EXPECT_THAT(Log("chief-0"), HasSubstr(R"("task":{"type":"master","index":0})"));
}

TEST_F(LocalTest, TheTokenIsOnNoCommandLine) {
  Launch({{"FAKE_MASTER_0", "train-for-ever"}});
  ASSERT_TRUE(WaitFor("RUNNING"));
  ASSERT_EQ(Roles().size(), 5u);
  for (const pid_t pid : Roles()) {
    const std::string proc = "/proc/" + std::to_string(pid);
    const std::string environment = *ReadFile(proc + "/environ");
    const size_t at = environment.find("MUSTER_JOB_TOKEN=") + 17;
    const std::string token = environment.substr(at, environment.find('\0', at) - at);
    EXPECT_EQ(token.size(), 32u);
    EXPECT_THAT(*ReadFile(proc + "/cmdline"), Not(HasSubstr(token)));
  }
}

TEST_F(LocalTest, ARoleThatIsKilledIsNamedWithItsLogAndItsField) {
  EXPECT_EQ(Run({{"FAKE_PS_0", "killed"}, {"FAKE_MASTER_0", "train-for-ever"}}), 1);
  EXPECT_THAT(Errors(), HasSubstr("error: ps-0 was killed by signal 9 (Killed)"));
  EXPECT_THAT(Errors(), HasSubstr("asked for by trainingInput.parameterServerCount"));
  EXPECT_THAT(Errors(), HasSubstr("ps-0.log:\n"));
  EXPECT_THAT(Errors(), HasSubstr("  last words\n"));
  EXPECT_TRUE(Roles().empty());
  EXPECT_EQ(State().state, RunState::kFailed);
  EXPECT_THAT(State().error_message, HasSubstr("ps-0 was killed"));
  EXPECT_THAT(*ReadFile(job_.job_dir + "/report.html"), HasSubstr("ps-0 was killed"));
}

TEST_F(LocalTest, ARoleThatExitsBeforeItRegistersIsNamed) {
  EXPECT_EQ(Run({{"FAKE_PS_0", "exit-early"}}), 1);
  EXPECT_THAT(Errors(), HasSubstr("error: ps-0 exited with code 3 before it registered"));
  EXPECT_THAT(Errors(), HasSubstr("asked for by trainingInput.parameterServerCount"));
  EXPECT_THAT(Errors(), HasSubstr("  the data directory D is empty\n"));
  EXPECT_TRUE(Roles().empty());
}

TEST_F(LocalTest, ARoleThatNeverRegistersIsNamed) {
  job_.start_timeout_ms = 1000;
  EXPECT_EQ(Run({{"FAKE_WORKER_0", "never-register"}}), 1);
  EXPECT_THAT(Errors(),
              HasSubstr("error: worker-0 did not register with the master within 1 s of its "
                        "start (asked for by trainingInput.workerCount); more time: "
                        "cluster.startTimeoutS"));
  EXPECT_TRUE(Roles().empty());
}

TEST_F(LocalTest, ARoleThatHangsIsNamedWithoutWaitingForItsTime) {
  EXPECT_EQ(Run({{"FAKE_PS_0", "never-register"}}), 1);
  EXPECT_THAT(Errors(), HasSubstr("error: ps-0 hangs: "));
  EXPECT_THAT(Errors(), HasSubstr("(asked for by trainingInput.parameterServerCount)"));
  EXPECT_TRUE(Roles().empty());
}

TEST_F(LocalTest, AMasterThatNeverListensIsNamed) {
  job_.start_timeout_ms = 1000;
  EXPECT_EQ(Run({{"FAKE_MASTER_0", "never-listen"}}), 1);
  EXPECT_THAT(Errors(), HasSubstr("error: master-0 did not listen within 1 s"));
  EXPECT_TRUE(Roles().empty());
}

TEST_F(LocalTest, AMasterThatCrashesIsNamedAndTakesAllAlong) {
  EXPECT_EQ(Run({{"FAKE_MASTER_0", "crash"}}), 1);
  EXPECT_THAT(Errors(), HasSubstr("error: master-0 was killed by signal 6 (Aborted)"));
  EXPECT_TRUE(Roles().empty());
}

TEST_F(LocalTest, WhatTheMasterSaysOfAFailureIsWhatTheUserReads) {
  EXPECT_EQ(Run({{"FAKE_MASTER_0", "fail"}}), 1);
  EXPECT_THAT(Errors(), HasSubstr("error: step 20: replica 1 pushed a NaN\n"));
  EXPECT_EQ(State().error_message, "step 20: replica 1 pushed a NaN");
}

TEST_F(LocalTest, AProgramThatIsNotThereIsNamed) {
  fs::remove(folder_ + "/bin/ps");
  EXPECT_EQ(Run(), 1);
  EXPECT_THAT(Errors(), HasSubstr("error: cannot start ps-0: " + folder_ +
                                  "/bin/ps: No such file or directory"));
  EXPECT_TRUE(Roles().empty());
}

TEST_F(LocalTest, RolesThatDoNotLeaveAreMadeTo) {
  job_.roles.resize(3);
  EXPECT_EQ(Run({{"FAKE_MASTER_0", "forget-others"}, {"FAKE_WORKER_0", "ignore-signals"}}), 0);
  EXPECT_TRUE(Roles().empty());
}

TEST_F(LocalTest, CtrlCEndsTheRunInOrder) {
  Launch({{"FAKE_MASTER_0", "train-for-ever"}});
  ASSERT_TRUE(WaitFor("RUNNING"));
  kill(launcher_, SIGINT);
  EXPECT_EQ(Wait(), 130) << Errors();
  EXPECT_THAT(output_, HasSubstr("interrupted: finishing the step and saving a checkpoint"));
  EXPECT_THAT(output_, HasSubstr("run the same command again"));
  EXPECT_EQ(State().state, RunState::kCancelled);
  EXPECT_TRUE(Roles().empty());
}

TEST_F(LocalTest, ASecondCtrlCStopsAtOnce) {
  Launch({{"FAKE_MASTER_0", "never-drain"}});
  ASSERT_TRUE(WaitFor("RUNNING"));
  kill(launcher_, SIGINT);
  ASSERT_TRUE(WaitFor("interrupted"));
  kill(launcher_, SIGINT);
  EXPECT_EQ(Wait(), 130) << Errors();
  EXPECT_EQ(State().state, RunState::kCancelled);
  EXPECT_TRUE(Roles().empty());
}

TEST_F(LocalTest, TheRunningTimeEndsTheRunInOrder) {
  job_.max_running_ms = 500;
  EXPECT_EQ(Run({{"FAKE_MASTER_0", "train-for-ever"}}), 1);
  EXPECT_EQ(State().state, RunState::kCancelled);
  EXPECT_THAT(State().error_message, HasSubstr("trainingInput.scheduling.maxRunningTime"));
  EXPECT_TRUE(Roles().empty());
}

TEST_F(LocalTest, ADirectoryThatIsHeldIsRefusedAndFreeAfterwards) {
  Launch({{"FAKE_MASTER_0", "train-for-ever"}});
  ASSERT_TRUE(WaitFor("RUNNING"));
  const auto second = master::JobLock::Take(master::JobDirectory(job_.job_dir), 0);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr("in use by process " + std::to_string(launcher_)));
  options_.err_fd = open((folder_ + "/err2").c_str(), O_WRONLY | O_CREAT, 0666);
  EXPECT_EQ(RunLocal(job_, options_), 2);
  EXPECT_THAT(*ReadFile(folder_ + "/err2"), HasSubstr("is in use by process"));
  kill(launcher_, SIGINT);
  EXPECT_EQ(Wait(), 130);
  EXPECT_EQ(Run(), 0) << Errors();
}

TEST_F(LocalTest, ADirectoryThatCannotBeMadeIsAnError) {
  std::ofstream(folder_ + "/job") << "a file";
  EXPECT_EQ(Run(), 2);
  EXPECT_THAT(Errors(), HasSubstr("it is a file"));
}

// Opens a handle on each process, so that its end can be waited for.
class Watched {
 public:
  explicit Watched(const std::vector<pid_t>& pids) {
    for (const pid_t pid : pids) {
      fds_.push_back({static_cast<int>(syscall(SYS_pidfd_open, pid, 0)), POLLIN, 0});
    }
  }
  ~Watched() {
    for (const pollfd& fd : fds_) close(fd.fd);
  }
  bool WaitForEnd() {
    for (pollfd& fd : fds_) {
      if (poll(&fd, 1, 60'000) != 1) return false;
    }
    return true;
  }

 private:
  std::vector<pollfd> fds_;
};

TEST_F(LocalTest, KillingTheLauncherLeavesNothingBehind) {
  Launch({{"FAKE_MASTER_0", "train-for-ever"}, {"FAKE_WORKER_1", "lose-parent-death-signal"}});
  ASSERT_TRUE(WaitFor("RUNNING"));
  const std::vector<pid_t> pids = Roles();
  ASSERT_EQ(pids.size(), 5u);
  Watched watched(pids);
  kill(launcher_, SIGKILL);
  EXPECT_EQ(Wait(), -SIGKILL);
  EXPECT_TRUE(watched.WaitForEnd());
  EXPECT_TRUE(Roles().empty());
  // Nothing of the lock is left either.
  EXPECT_TRUE(master::JobLock::Take(master::JobDirectory(job_.job_dir), 0).ok());
}

}  // namespace
}  // namespace muster::cluster
