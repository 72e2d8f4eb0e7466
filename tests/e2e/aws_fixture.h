// AwsTest: jobs on machines of an EC2 that is moto's, with a machine behind each instance
// (tests/e2e/fake_aws.py), through the real `aws`. One cloud for all tests of a binary; each leaves
// it empty.
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
#include "tests/e2e/aws_cloud.h"
#include "tests/e2e/programs.h"

namespace muster::e2e {

inline AwsCloud& Cloud() {
  static auto* const cloud = new AwsCloud(NewFolder("aws"));
  return *cloud;
}
class CloudEnd : public ::testing::Environment {
 public:
  void TearDown() override { Cloud().~AwsCloud(); }
};

class AwsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Cloud().problem().empty()) GTEST_SKIP() << Cloud().problem();
    Cloud().SetFaults("[]");
    Cloud().SetSleepSpeed(1);
    (void)Cloud().Asked();
  }
  // Whatever became of the launch: no machine, no journal, no key.
  void TearDown() override {
    if (!Cloud().problem().empty()) return;
    EXPECT_THAT(Cloud().Machines(), ::testing::IsEmpty());
    EXPECT_THAT(Cloud().Schedules(), ::testing::IsEmpty());
    const std::filesystem::path folder = home_ + "/.muster/machines";
    EXPECT_TRUE(!std::filesystem::exists(folder) || std::filesystem::is_empty(folder));
  }

  std::vector<std::string> Words(const std::string& name, const TinyJob& job) {
    std::vector<std::string> words = LaunchWords(NewFolder(name), job);
    words.emplace_back("--yes");
    words.insert(words.end(), {"--job-id", name});
    return words;
  }
  TinyJob Job() const {
    TinyJob job;
    job.cluster = AwsCloud::Cluster();
    return job;
  }
  Ended Launch(const std::vector<std::string>& words) {
    return Running(words, /*unprivileged=*/false, environment_).Wait();
  }
  static void AwaitNoMachines() {
    for (int i = 0; i < 600 && !Cloud().Machines().empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    EXPECT_THAT(Cloud().Machines(), ::testing::IsEmpty());
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

  const std::string home_ = NewFolder("home");
  const std::map<std::string, std::string> environment_ = Cloud().environment(home_);
};

[[maybe_unused]] inline const auto* const cloud_end =
    ::testing::AddGlobalTestEnvironment(new CloudEnd);

}  // namespace muster::e2e
