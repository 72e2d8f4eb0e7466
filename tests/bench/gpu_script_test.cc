// What bench/gpu.sh makes of tests that pass, fail and are skipped: it runs programs of googletest
// from a bundle that is played.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class GpuScriptTest : public ::testing::Test {
 protected:
  GpuScriptTest() {
    std::filesystem::create_directories(bin_);
    AddProgram("launch", "echo all well");
  }
  void AddProgram(const std::string& name, const std::string& command) {
    const std::string path = bin_ + "/" + name;
    ASSERT_TRUE(WriteFileAtomically(path, "#!/bin/sh\n" + command + "\n").ok());
    std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  }
  // A program of the bundle, whose tests end as `sample` says (gpu_script_sample.cc).
  void AddTests(const std::string& name, const std::string& sample) {
    AddProgram(name, fmt::format("ulimit -c 0; SAMPLE={} exec {} \"$@\"", sample, SAMPLE));
  }
  // Its exit status; fills results_ and table_.
  int Run() {
    const std::string table = folder_.path() + "/table";
    const int status = std::system(
        fmt::format("bash bench/gpu.sh {0}/bundles {0}/out >{1} 2>&1", folder_.path(), table)
            .c_str());
    table_ = ReadFile(table).value_or("");
    const auto text = ReadFile(folder_.path() + "/out/results.json");
    EXPECT_TRUE(text.ok()) << table_;
    const auto json = nlohmann::json::parse(text.value_or("{}"));
    for (const auto& part : json["parts"]) {
      results_[part["name"].get<std::string>()] = part["result"].get<std::string>();
    }
    return WEXITSTATUS(status);
  }

  const harness::TemporaryFolder folder_;
  const std::string bin_ = folder_.path() + "/bundles/muster-0/bin";
  std::map<std::string, std::string> results_;
  std::string table_;
};

TEST_F(GpuScriptTest, WhatWasSkippedHasNeitherPassedNorFailed) {
  AddTests("op_test", "");
  AddTests("norm_test", "skip");
  AddTests("conv2d_test", "skip,other");
  EXPECT_EQ(Run(), 0) << table_;
  EXPECT_EQ(results_["doctor"], "all well");
  EXPECT_EQ(results_["op_test"], "3 passed");
  EXPECT_EQ(results_["norm_test"], "2 passed, 1 skipped: no BF16; it \"begins\" with 8.0");
  EXPECT_EQ(results_["conv2d_test"],
            "1 passed, 2 skipped: no BF16; it \"begins\" with 8.0; one GPU alone");
  EXPECT_EQ(results_["device_check_test"], "not in the bundle");
  EXPECT_THAT(table_, HasSubstr(results_["norm_test"]));
}

// Where everything is skipped something is wrong, although nothing failed; what the host plays is
// no proof of anything.
TEST_F(GpuScriptTest, AProgramThatSkipsEverythingIsNoSuccess) {
  AddTests("op_test", "");
  AddTests("norm_test", "skip,other,third");
  EXPECT_EQ(Run(), 3) << table_;
  EXPECT_EQ(results_["op_test"], "3 passed");
  EXPECT_EQ(results_["norm_test"],
            "NOTHING RAN, 3 skipped: no BF16; it \"begins\" with 8.0; one GPU alone");
  EXPECT_THAT(table_, HasSubstr(results_["norm_test"]));
}

TEST_F(GpuScriptTest, AProgramThatHasNoTestsOfAGpuIsNoSuccess) {
  AddProgram("op_test", fmt::format("exec {} --gtest_filter=nothing", SAMPLE));
  EXPECT_EQ(Run(), 3) << table_;
  EXPECT_EQ(results_["op_test"], "NOTHING RAN");
}

TEST_F(GpuScriptTest, WhatFailsIsCounted) {
  AddTests("op_test", "skip,fail");
  AddTests("norm_test", "skip,crash");
  AddTests("conv2d_test", "skip,other,third");
  EXPECT_EQ(Run(), 1) << table_;
  EXPECT_EQ(results_["op_test"],
            "FAILED: 1 failed, 1 passed, 1 skipped: no BF16; it \"begins\" with 8.0");
  EXPECT_THAT(results_["norm_test"], StartsWith("FAILED (134): "));
  EXPECT_THAT(results_["conv2d_test"], StartsWith("NOTHING RAN, 3 skipped: "));
}

// What bench/gpu_figures.py reads out of the job directories.
class GpuFiguresTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::system("python3 -c 1 2>/dev/null") != 0) GTEST_SKIP() << "no python3";
  }
  // A job whose launch began at 100.5 s, with a step each `step_s` from 102 s on, and an end 1 s
  // after the last; its losses are 2, 1, 2/3 … times `scale`.
  std::string AddJob(const std::string& name, double step_s, double scale = 1,
                     const std::string& state = "SUCCEEDED") {
    const std::string job = folder_.path() + "/" + name;
    const auto at = [](double s) {
      return fmt::format("1970-01-01T00:{:02}:{:06.3f}Z", static_cast<int>(s / 60),
                         std::fmod(s, 60));
    };
    std::string history = R"({"kind":"run","step":0})"
                          "\n";
    for (int step = 1; step <= 20; ++step) {
      history += fmt::format(R"({{"kind":"loss","step":{},"loss":{},"time":"{}"}})"
                             "\n",
                             step, 2.0 / step * scale, at(102 + step_s * (step - 1)));
    }
    Write(job, "summaries/history.jsonl", history);
    Write(job, "state.json",
          fmt::format(R"({{"state":"{}","errorMessage":"why","endTime":"{}",)"
                      R"("metrics":{{"test_accuracy":0.9}}}})",
                      state, at(103 + 19 * step_s)));
    Write(job, "logs/master-0.log", at(102) + " master I first step finished\n");
    Write(job, "began", "100.5\n");
    Write(job, "busy", "0\n0\n80\n96\n98\n0\n[N/A]\n");
    return job;
  }
  static void Write(const std::string& job, const std::string& name, const std::string& text) {
    const std::filesystem::path path = std::filesystem::path(job) / name;
    std::filesystem::create_directories(path.parent_path());
    ASSERT_TRUE(WriteFileAtomically(path.string(), text).ok());
  }
  // Its exit status; fills figures_ and said_.
  int Run(const std::string& jobs) {
    const std::string out = folder_.path() + "/figures.json", said = folder_.path() + "/said";
    const int status = std::system(
        fmt::format("python3 bench/gpu_figures.py {} {} >{} 2>&1", out, jobs, said).c_str());
    said_ = ReadFile(said).value_or("");
    for (const auto& row : nlohmann::json::parse(ReadFile(out).value_or("[]"))) {
      figures_[row["name"].get<std::string>()] = row["value"].get<double>();
    }
    return WEXITSTATUS(status);
  }

  const harness::TemporaryFolder folder_;
  std::map<std::string, double> figures_;
  std::string said_;
};

TEST_F(GpuFiguresTest, AreThoseOfTheJobs) {
  const std::string jobs = AddJob("server", 0.5) + " " + AddJob("alone", 0.4) + " " +
                           AddJob("cpu", 1) + " " + AddJob("gpu", 1, 1.0005);
  EXPECT_EQ(Run(jobs), 0) << said_;
  EXPECT_NEAR(figures_["job_with_server"], 103 + 19 * 0.5 - 100.5, 1e-3);
  EXPECT_NEAR(figures_["first_step_alone"], 1.5, 1e-3);
  EXPECT_NEAR(figures_["step_alone"], 0.4e6, 100);
  EXPECT_NEAR(figures_["server_cost"], 0.1e6, 100);
  EXPECT_NEAR(figures_["server_cost_share"], 0.25, 1e-3);
  EXPECT_NEAR(figures_["kernels_run_alone"], 0.96, 1e-6) << "the median while it worked";
  EXPECT_NEAR(figures_["fp32_losses"], 5e-4, 1e-6);
}

TEST_F(GpuFiguresTest, LossesThatAreTooFarApartFail) {
  const std::string jobs = AddJob("server", 1) + " " + AddJob("alone", 1) + " " + AddJob("cpu", 1) +
                           " " + AddJob("gpu", 1, 1.002);
  EXPECT_EQ(Run(jobs), 1);
  EXPECT_THAT(said_, HasSubstr("FP32 losses are 0.002 apart"));
  EXPECT_NEAR(figures_["fp32_losses"], 2e-3, 1e-6) << "all is written down nevertheless";
}

TEST_F(GpuFiguresTest, AJobThatFailedIsNamed) {
  const std::string failed = AddJob("server", 1, 1, "FAILED");
  EXPECT_EQ(Run(failed + " " + AddJob("alone", 1) + " " + failed + " " + failed), 1);
  EXPECT_THAT(said_, HasSubstr(failed + ": FAILED: why"));
}

}  // namespace
}  // namespace muster
