// CloudTest: jobs on machines of a cloud that is played (tests/e2e/played_cloud.h), through the
// provider's real command line. One cloud for all tests of a binary; each leaves it empty.
//
// For one test binary's thread.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "master/job_directory.h"
#include "tests/e2e/programs.h"

namespace muster::e2e {

template <typename C>
C& TheCloud() {
  static auto* const cloud = new C(NewFolder("cloud"));
  return *cloud;
}
template <typename C>
class CloudEnd : public ::testing::Environment {
 public:
  void TearDown() override { TheCloud<C>().~C(); }
};

template <typename C>
class CloudTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cloud_.problem().empty()) GTEST_SKIP() << cloud_.problem();
    cloud_.SetFaults("[]");
    cloud_.SetSpeed(1);
    cloud_.SetSleepSpeed(1);
    (void)cloud_.Asked();
  }
  // Whatever became of the launch: no machine, no journal, no key.
  void TearDown() override {
    if (!cloud_.problem().empty()) return;
    EXPECT_THAT(cloud_.Machines(), ::testing::IsEmpty());
    const std::filesystem::path folder = home_ + "/.muster/machines";
    EXPECT_TRUE(!std::filesystem::exists(folder) || std::filesystem::is_empty(folder));
  }

  std::vector<std::string> Words(const std::string& name, const TinyJob& job) {
    std::vector<std::string> words = LaunchWords(NewFolder(name), job);
    words.insert(words.end(), {"--yes", "--job-id", name});
    return words;
  }
  static TinyJob Job() {
    TinyJob job;
    job.cluster = C::Cluster();
    return job;
  }
  Ended Launch(const std::vector<std::string>& words) {
    return Running(words, /*unprivileged=*/false, environment_).Wait();
  }
  void AwaitNoMachines() {
    for (int i = 0; i < 600 && !cloud_.Machines().empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_THAT(cloud_.Machines(), ::testing::IsEmpty());
  }

  // Runs a job on four machines, and on this one alone: both learn the same. What the launch said.
  std::string LearnsTheSameAsHere() {
    TinyJob job = Job();
    job.workers = 2;
    job.servers = 1;
    TinyJob local = job;
    local.cluster = "";
    const std::string here = NewFolder("here"), there = NewFolder("there");
    EXPECT_EQ(RunToEnd(LaunchWords(here, local)).code, 0);
    std::vector<std::string> words = LaunchWords(there, job);
    words.emplace_back("--yes");
    const Ended run = Launch(words);
    EXPECT_EQ(run.code, 0) << run.out << run.err;
    EXPECT_EQ(run.err, "");
    ExpectForHumans(run);
    EXPECT_EQ(StateOf(there + "/job").state, master::RunState::kSucceeded);
    const std::string model = Contents(there + "/job/export/model.onnx");
    EXPECT_FALSE(model.empty());
    EXPECT_TRUE(model == Contents(here + "/job/export/model.onnx"));
    return run.out;
  }

  // What the job in `there` knew at its last checkpoint is what `local`, the same job on this
  // machine alone, knows of that step.
  static void ExpectSameAsUndisturbed(const std::string& there, const TinyJob& local) {
    const int64_t step = StateOf(there + "/job").step / local.save_every * local.save_every;
    ASSERT_GT(step, 0);
    const std::string here = NewFolder("here");
    const master::JobDirectory ours(there + "/job"), theirs(here + "/job");
    Running undisturbed(LaunchWords(here, local));
    for (int i = 0;
         i < 12'000 && !std::filesystem::exists(theirs.checkpoint(step) + "/manifest.json"); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    const std::string part = "/ps-0.safetensors";
    const std::string learnt = Contents(ours.checkpoint(step) + part);
    EXPECT_FALSE(learnt.empty());
    EXPECT_TRUE(learnt == Contents(theirs.checkpoint(step) + part));
  }

  C& cloud_ = TheCloud<C>();
  const std::string home_ = NewFolder("home");
  const std::map<std::string, std::string> environment_ = cloud_.environment(home_);
};

}  // namespace muster::e2e
