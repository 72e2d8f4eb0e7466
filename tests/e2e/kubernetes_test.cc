// Jobs on pods of a Kubernetes (tests/e2e/kubernetes_cluster.h).
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "tests/e2e/kubernetes_cluster.h"
#include "tests/e2e/programs.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;
using master::RunState;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class KubernetesTest : public ::testing::Test {
 protected:
  explicit KubernetesTest(const std::string& more = "")
      : kubernetes_(NewFolder("kubernetes"), more) {}
  void SetUp() override {
    if (!kubernetes_.problem().empty()) GTEST_SKIP() << kubernetes_.problem();
  }
  // With the master four machines on four nodes.
  TinyJob Job(const std::string& fields = "") const {
    TinyJob job;
    job.workers = 2;
    job.servers = 1;
    job.cluster = fmt::format("provider: KUBERNETES, kubernetes: {{programs: {}{}}}",
                              std::getenv("MUSTER_BIN"), fields.empty() ? "" : ", " + fields);
    return job;
  }
  std::map<std::string, std::string> Environment() const {
    auto environment = kubernetes_.environment();
    environment["HOME"] = home_;
    return environment;
  }
  Ended Launch(const std::vector<std::string>& words) const {
    return Running(words, /*unprivileged=*/false, Environment()).Wait();
  }
  // Nothing of a job is there, `seconds` after now at the latest.
  void ExpectGivenBack(int seconds = 20) const {
    for (int i = 0; i < 10 * seconds && !kubernetes_.Objects().empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_THAT(kubernetes_.Objects(), IsEmpty());
    EXPECT_THAT(kubernetes_.Processes(), IsEmpty());
    EXPECT_FALSE(fs::exists(home_ + "/.muster/machines/job.jsonl"));
  }
  // No pod runs any more, though something of the job may be left to look at.
  void ExpectNoPodRuns(int seconds) const {
    const auto running = [this] {
      return kubernetes_.Kubectl("get pods -o json | grep '\"phase\": \"Running\"'");
    };
    for (int i = 0; i < seconds && !running().empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::seconds(1));
    }
    EXPECT_EQ(running(), "");
    EXPECT_THAT(kubernetes_.Processes(), IsEmpty());
  }
  void ExpectSameAsLocal() const {
    const std::string here = NewFolder("here"), there = NewFolder("there");
    TinyJob local = Job();
    local.cluster = "";
    ASSERT_EQ(RunToEnd(LaunchWords(here, local)).code, 0);
    const Ended run = Launch(LaunchWords(there, Job()));
    ASSERT_EQ(run.code, 0) << run.out << run.err;
    EXPECT_EQ(run.err, "");
    ExpectForHumans(run);
    ExpectGivenBack();
    EXPECT_EQ(StateOf(there + "/job").state, RunState::kSucceeded);
    for (const char* file :
         {"/job/export/model.onnx", "/job/checkpoints/step-60/ps-0.safetensors"}) {
      EXPECT_TRUE(Contents(there + file) == Contents(here + file)) << file;
    }
    EXPECT_THAT(Contents(there + "/job/logs/worker-1.log"), HasSubstr(" I device /cpu:0"));
  }

  const KubernetesCluster kubernetes_;
  const std::string home_ = NewFolder("home");  // of who launches
};

class JobSetTest : public KubernetesTest {
 protected:
  JobSetTest() : KubernetesTest("--jobset") {}
};

TEST_F(JobSetTest, AJobLearnsTheSameAsOnOneMachine) {
  ExpectSameAsLocal();
  EXPECT_THAT(kubernetes_.Log(), AllOf(HasSubstr("POST jobsets"), Not(HasSubstr("POST jobs\""))));
}

TEST_F(KubernetesTest, ProgramsAreSentToPodsWhoseImageLacksThem) {
  // An unpacked bundle, whose libraries are those of this machine.
  const std::string bundle = NewFolder("bundle");
  fs::create_directories(bundle + "/bin");
  fs::create_directories(bundle + "/lib");
  for (const char* program : {"launch", "master", "worker", "ps"}) {
    fs::copy_file(fmt::format("{}/{}", std::getenv("MUSTER_BIN"), program),
                  fmt::format("{}/bin/{}", bundle, program));
  }
  TinyJob job = Job();
  job.cluster = "provider: KUBERNETES";
  std::vector<std::string> words = LaunchWords(NewFolder("sent"), job);
  words.front() = bundle + "/bin/launch";
  const Ended run = Launch(words);
  ASSERT_EQ(run.code, 0) << run.out << run.err;
  EXPECT_THAT(run.out, HasSubstr("sending the programs"));
  ExpectGivenBack();
}

TEST_F(KubernetesTest, AJobThatIsLeftGoesOnInItsPodsAndIsFollowedAgain) {
  TinyJob job = Job();
  job.steps = 3'000;
  job.evaluate_every = job.save_every = 1'000;
  const std::string folder = NewFolder("left"), dir = folder + "/job";
  std::vector<std::string> words = LaunchWords(folder, job);
  words.emplace_back("--async");
  const Ended left = Launch(words);
  ASSERT_EQ(left.code, 0) << left.out << left.err;
  EXPECT_THAT(left.out, HasSubstr("the job goes on, ends by 20")) << "nothing is paid";
  EXPECT_THAT(Launch({"launch", "gc"}).out, HasSubstr("job: it was left to go on until 20"));
  const Ended followed = Launch({"launch", "attach", dir});
  ASSERT_EQ(followed.code, 0) << followed.out << followed.err;
  EXPECT_EQ(StateOf(dir).state, RunState::kSucceeded);
  EXPECT_TRUE(fs::exists(dir + "/export/model.onnx"));
  ExpectGivenBack();
}

TEST_F(KubernetesTest, PodsOfAKilledLauncherEndAndAreSweptUp) {
  TinyJob job = Job();
  job.steps = 100'000;
  const std::vector<std::string> words = LaunchWords(NewFolder("killed"), job);
  Running run(words, false, Environment());
  ASSERT_TRUE(run.WaitFor("/100,000")) << run.out();
  EXPECT_THAT(kubernetes_.Processes(), ::testing::Contains("master"));
  run.Signal(SIGKILL);
  run.Wait();
  // Nobody asks for it: the pods hold their nodes only while `launch node` runs, and a minute.
  ExpectNoPodRuns(90);
  const Ended swept = Launch({"launch", "gc"});
  EXPECT_EQ(swept.code, 0) << swept.out << swept.err;
  ExpectGivenBack();
}

TEST_F(KubernetesTest, APodThatGoesEndsTheJobWithItsNameUnlessOthersCanDoItsWork) {
  TinyJob job = Job();
  job.steps = 1'000'000;
  Running run(LaunchWords(NewFolder("dies"), job), false, Environment());
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  kubernetes_.Kubectl("delete pod --now --wait=false -l muster-role=worker,muster-job=job");
  ASSERT_TRUE(run.WaitFor("the job goes on without it")) << run.out();
  kubernetes_.Kubectl("delete pods --now --wait=false -l muster-role=ps,muster-job=job");
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 1) << ended.out;
  EXPECT_THAT(ended.err, HasSubstr("ps"));
  ExpectForHumans(ended);
  ExpectGivenBack();
}

TEST_F(KubernetesTest, AJobThatWaitsSaysWhyAndIsGivenUpInOrder) {
  kubernetes_.Change(R"({"bad_images": ["nowhere/nothing:1"]})");
  Running run(LaunchWords(NewFolder("image"), Job("image: \"nowhere/nothing:1\"")), false,
              Environment());
  ASSERT_TRUE(run.WaitFor("ImagePullBackOff: Back-off pulling image")) << run.out();
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 130) << ended.err;
  ExpectForHumans(ended);
  ExpectGivenBack();
}

TEST_F(KubernetesTest, WhatCannotBeIsRefusedInOneLine) {
  const auto refused = [&](const std::string& name, const std::string& fields,
                           std::map<std::string, std::string> environment) {
    environment.try_emplace("HOME", home_);
    const Ended run = Running(LaunchWords(NewFolder(name), Job(fields)), false, environment).Wait();
    EXPECT_EQ(run.code, 2) << run.out;
    ExpectForHumans(run);
    ExpectGivenBack();
    return run.err;
  };
  EXPECT_THAT(refused("none", "", {{"PATH", NewFolder("empty")}}),
              HasSubstr("there is no program kubectl in PATH"));
  EXPECT_THAT(refused("context", "context: nowhere", Environment()),
              HasSubstr("cluster.kubernetes.context"));
  kubernetes_.Change(R"({"quota": {"requests.cpu": "6"}})");
  EXPECT_THAT(refused("quota", "", Environment()),
              HasSubstr("0 of 6 requests.cpu are in use, and the job needs 16"));
  kubernetes_.Change(R"({"logged_in": false})");
  const Ended stranger = Launch(LaunchWords(NewFolder("login"), Job()));
  EXPECT_EQ(stranger.code, 2);
  EXPECT_THAT(stranger.err, HasSubstr("log in to the cluster"));
  ExpectForHumans(stranger);
}

}  // namespace
}  // namespace muster::e2e
