// What bench/gpu.sh makes of tests that pass, fail and are skipped: it runs programs of googletest
// from a bundle that is played.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

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

}  // namespace
}  // namespace muster
