// Jobs on hosts that ssh reaches: three of them, each with its own network and its own folder for
// jobs (tests/e2e/ssh_hosts.h).
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "master/job_directory.h"
#include "tests/e2e/programs.h"
#include "tests/e2e/ssh_hosts.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;
using master::RunState;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class SshTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!hosts_.problem().empty()) GTEST_SKIP() << hosts_.problem();
  }
  // Two workers and two servers: with the master five machines on three hosts.
  TinyJob Job(const std::string& cluster) const {
    TinyJob job;
    job.workers = 2;
    job.servers = 2;
    job.cluster = cluster;
    return job;
  }
  // One line for people, exit code 2, nothing left.
  void ExpectRefused(const std::string& name, const std::string& cluster,
                     const ::testing::Matcher<std::string>& text) {
    SCOPED_TRACE(name);
    const Ended run = RunToEnd(LaunchWords(NewFolder(name), Job(cluster)));
    EXPECT_EQ(run.code, 2) << run.out;
    EXPECT_THAT(run.err, text);
    ExpectForHumans(run);
    hosts_.ExpectQuiet();
  }

  const SshHosts hosts_{3, NewFolder("hosts")};
};

// The path is relative: to where launch runs here, and to the user's home there.
TEST_F(SshTest, DataThatHostsLackIsSentThere) {
  const std::string here = NewFolder("sent"), plain = NewFolder("plain");
  TinyJob job = Job(hosts_.Cluster());
  job.steps = 20;
  ASSERT_EQ(RunToEnd(LaunchWords(plain, job)).code, 0);
  // Another job of that name.
  for (int host = 0; host < 3; ++host) hosts_.On(host, "rm -rf " + hosts_.node_folder() + "/jobs");
  job.data = "only/here";
  fs::create_directories(here + "/only");
  fs::create_directory_symlink(SpeechData(), here + "/only/here");
  std::vector<std::string> words = LaunchWords(here, job);
  words.front() = fmt::format("{}/launch", std::getenv("MUSTER_BIN"));
  words.insert(words.begin(), {"/usr/bin/env", "-C", here});
  const Ended run = RunToEnd(words);
  ASSERT_EQ(run.code, 0) << run.out << run.err;
  EXPECT_THAT(run.out, HasSubstr("sending only/here ("));
  const std::string model = "/job/export/model.onnx";
  EXPECT_TRUE(Contents(here + model) == Contents(plain + model));
  hosts_.ExpectQuiet();
  const Ended again = RunToEnd(words);
  EXPECT_EQ(again.code, 0) << again.out << again.err;
  EXPECT_THAT(again.out, ::testing::Not(HasSubstr("sending only/here")));
}

TEST_F(SshTest, AHostThatIsGoneEndsTheJobWithItsName) {
  TinyJob job = Job(hosts_.Cluster());
  job.steps = 100'000;
  Running run(LaunchWords(NewFolder("cut"), job));
  ASSERT_TRUE(run.WaitFor("/100,000")) << run.out();
  hosts_.Crash(1);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 1) << ended.out;
  EXPECT_THAT(ended.err, HasSubstr(hosts_.address(1)));
  ExpectForHumans(ended);
  hosts_.ExpectQuiet();
}

// With all that lies there. The job goes on where it was, here for once.
TEST_F(SshTest, WhatAJobHasLearntOutlivesTheMastersHost) {
  TinyJob job = Job(hosts_.Cluster());
  job.steps = 1'000'000;
  job.evaluate_every = job.save_every = 100;
  const std::string folder = NewFolder("outlived");
  const std::vector<std::string> words = LaunchWords(folder, job);
  // What lies there is sent, in more than a few parts.
  fs::create_directories(folder + "/job");
  WriteText(folder + "/job/large", std::string(20 << 20, 'x') + "end");
  Running run(words);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  const std::string sum = "sha1sum < ";
  EXPECT_EQ(hosts_.On(0, sum + hosts_.node_folder() + "/jobs/job/large"),
            hosts_.On(1, sum + folder + "/job/large"));
  const master::JobDirectory dir(folder + "/job");
  for (int i = 0; i < 600 && !master::NewestCheckpoint(dir, nullptr).ok(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  ASSERT_EQ(master::NewestCheckpoint(dir, nullptr).status(), absl::OkStatus());
  hosts_.Crash(0);
  EXPECT_EQ(run.Wait().code, 1);
  const auto checkpoint = master::NewestCheckpoint(dir, nullptr);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  job.cluster = "";
  Running next(LaunchWords(folder, job));
  EXPECT_TRUE(next.WaitFor(fmt::format("from the checkpoint of step {}", checkpoint->step)))
      << next.out();
  ASSERT_TRUE(next.WaitFor("validation")) << next.out();
  next.Signal(SIGINT);
  EXPECT_EQ(next.Wait().code, 130);
}

// A cable that is out: nobody hears of it, not even an end. The third host has a worker alone,
// which the others do without; what they learn is the same.
TEST_F(SshTest, AHostOfAWorkerThatVanishesIsDoneWithout) {
  TinyJob job = Job(hosts_.Cluster());
  job.steps = 1'000'000;
  job.evaluate_every = job.save_every = 500;
  TinyJob local = job;
  local.cluster = "";
  const std::string here = NewFolder("here"), there = NewFolder("there");
  Running run(LaunchWords(there, job));
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  hosts_.SetLink(2, false);
  ASSERT_TRUE(run.WaitFor("worker-1 is away: host " + hosts_.address(2))) << run.out();
  EXPECT_THAT(run.out(), HasSubstr("; the job goes on without it"));
  ASSERT_TRUE(run.WaitFor("; replica 2 goes on in ")) << run.out();
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  hosts_.SetLink(2, true);
  ASSERT_EQ(ended.code, 130) << ended.out << ended.err;
  EXPECT_EQ(ended.err, "");
  ExpectForHumans(ended);
  hosts_.ExpectQuiet();
  const master::JobState state = StateOf(there + "/job");
  const int64_t step = state.step / 500 * 500;
  ASSERT_GT(step, 0);
  const master::JobDirectory ours(there + "/job"), theirs(here + "/job");
  Running undisturbed(LaunchWords(here, local));
  for (int i = 0; i < 12'000 && !fs::exists(theirs.checkpoint(step) + "/manifest.json"); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  for (const char* part : {"/ps-0.safetensors", "/ps-1.safetensors"}) {
    const std::string learnt = Contents(ours.checkpoint(step) + part);
    EXPECT_FALSE(learnt.empty());
    EXPECT_TRUE(learnt == Contents(theirs.checkpoint(step) + part));
  }
}

TEST_F(SshTest, AHostThatIsNotHeardOfForSomeSecondsIsNotGivenUp) {
  TinyJob job = Job(hosts_.Cluster());
  job.steps = 1'000'000;
  Running run(LaunchWords(NewFolder("slow"), job));
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  hosts_.SetLink(2, false);
  std::this_thread::sleep_for(std::chrono::seconds(6));
  hosts_.SetLink(2, true);
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  ASSERT_TRUE(run.WaitFor("validation")) << run.out();
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 130) << ended.out << ended.err;
  EXPECT_THAT(ended.out, AllOf(Not(HasSubstr("is away")), Not(HasSubstr("goes on in"))));
  hosts_.ExpectQuiet();
}

TEST_F(SshTest, WhatCannotBeUsedIsRefusedInOneLine) {
  const std::string programs = fmt::format("programs: {}", std::getenv("MUSTER_BIN"));
  const auto with = [&](const std::string& hosts, const std::string& fields) {
    return fmt::format(
        "provider: SSH, ssh: {{hosts: [{}], configFile: {}/ssh_config, directory: "
        "{}, {}}}",
        hosts, fs::path(hosts_.key()).parent_path().string(), hosts_.node_folder(), fields);
  };
  const std::string first = fmt::format("{{host: {}}}", hosts_.address(0));
  const std::string key = "identityFile: " + hosts_.key();
  ExpectRefused("no_program", with(first, key + ", programs: /nowhere"),
                HasSubstr("host " + hosts_.address(0) + ": no program launch in /nowhere"));
  ExpectRefused("no_host", with("{host: nowhere.invalid}", key + ", " + programs),
                HasSubstr("host nowhere.invalid: there is no host of this name"));
  ExpectRefused(
      "no_port",
      with(fmt::format("{{host: {}, port: 4}}", hosts_.address(0)), key + ", " + programs),
      AllOf(HasSubstr(hosts_.address(0) + ":4: nothing listens for ssh"),
            HasSubstr("hosts[].port")));
  const std::string open = NewFolder("keys") + "/open";
  fs::copy_file(hosts_.key(), open);
  fs::permissions(open, fs::perms::others_read, fs::perm_options::add);
  ExpectRefused("open_key", with(first, "identityFile: " + open + ", " + programs),
                HasSubstr("run chmod 600 " + open));
  const std::string stranger = NewFolder("stranger") + "/key";
  ASSERT_EQ(std::system(("ssh-keygen -q -t ed25519 -N '' -f " + stranger).c_str()), 0);
  ExpectRefused("stranger", with(first, "identityFile: " + stranger + ", " + programs),
                HasSubstr("it refuses the login: try ssh " + hosts_.address(0)));
  // One line for each host, all at once.
  ExpectRefused("two",
                with("{host: nowhere.invalid}, {host: elsewhere.invalid}", key + ", " + programs),
                AllOf(HasSubstr("host nowhere.invalid"), HasSubstr("host elsewhere.invalid")));
  ExpectRefused("folder", with(first, key + ", " + programs + ", directory: relative"),
                HasSubstr("directory"));
  WriteText(hosts_.known_hosts(),
            fmt::format("{} {}", hosts_.address(0), Contents(stranger + ".pub")));
  ExpectRefused("changed", with(first, key + ", " + programs),
                AllOf(HasSubstr("its host key is not the one that known_hosts has"),
                      HasSubstr("ssh-keygen -R " + hosts_.address(0))));
}

TEST_F(SshTest, ProgramsAreSentToHostsThatLackThem) {
  // An unpacked bundle, whose libraries are those of this machine.
  const std::string bundle = NewFolder("bundle"), folder = NewFolder("sent");
  fs::create_directories(bundle + "/bin");
  fs::create_directories(bundle + "/lib");
  for (const char* program : {"launch", "master", "worker", "ps"}) {
    fs::copy_file(fmt::format("{}/{}", std::getenv("MUSTER_BIN"), program),
                  fmt::format("{}/bin/{}", bundle, program));
  }
  std::vector<std::string> words =
      LaunchWords(folder, Job(hosts_.Cluster("directory: " + hosts_.node_folder())));
  words.front() = bundle + "/bin/launch";
  const Ended first = RunToEnd(words);
  ASSERT_EQ(first.code, 0) << first.out << first.err;
  EXPECT_THAT(first.out, HasSubstr("sending the programs"));
  for (int host = 0; host < 3; ++host) {
    EXPECT_THAT(hosts_.On(host, "ls " + hosts_.node_folder() + "/builds/*/bin"),
                HasSubstr("launch\nmaster\nps\nworker"));
  }
  // Once there, they stay.
  words.back() = folder + "/second";
  const Ended second = RunToEnd(words);
  ASSERT_EQ(second.code, 0) << second.out << second.err;
  EXPECT_THAT(second.out, ::testing::Not(HasSubstr("sending the programs")));

  // A disk that they do not fit on.
  hosts_.On(1,
            fmt::format("rm -rf {0}/builds; mount -o remount,size=8M {0}", hosts_.node_folder()));
  const Ended full = RunToEnd(words);
  EXPECT_EQ(full.code, 2) << full.out;
  EXPECT_THAT(full.err, AllOf(HasSubstr("host " + hosts_.address(1) + ": its disk has"),
                              HasSubstr("MiB left, and the programs need")));
  EXPECT_EQ(hosts_.On(1, "ls " + hosts_.node_folder() + "/builds"), "");
}

TEST_F(SshTest, AJobThatRunsIsNotStartedTwice) {
  TinyJob job = Job(hosts_.Cluster());
  job.steps = 100'000;
  const std::string folder = NewFolder("once");
  Running run(LaunchWords(folder, job));
  ASSERT_TRUE(run.WaitFor("/100,000")) << run.out();
  // From another directory, so that only the host knows.
  const std::string other = NewFolder("twice");
  std::vector<std::string> words = LaunchWords(other, job);
  words.insert(words.end(), {"--job-id", "job"});
  const Ended second = RunToEnd(words);
  EXPECT_EQ(second.code, 2) << second.out;
  EXPECT_THAT(second.err, AllOf(HasSubstr("host " + hosts_.address(0)), HasSubstr("process")));
  ExpectForHumans(second);
}

}  // namespace
}  // namespace muster::e2e
