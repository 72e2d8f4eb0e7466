// A program of three tests for a GPU, as gpu_script_test wants it to be: they pass, but for what
// $SAMPLE names: "skip", "other" and "third" skip one each, "fail", "crash".
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace {

bool Wanted(const std::string& what) {
  const char* const sample = std::getenv("SAMPLE");
  return sample != nullptr && std::string(sample).find(what) != std::string::npos;
}

class SampleTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Devices, SampleTest, ::testing::Values("gpu", "host_gpu"),
                         [](const auto& info) { return info.param; });

// What the host plays passes always.
TEST_P(SampleTest, MaySkip) {
  if (GetParam() == "gpu" && Wanted("skip")) GTEST_SKIP() << "no BF16; it \"begins\" with 8.0";
}

TEST_P(SampleTest, MaySkipForAnotherReason) {
  if (GetParam() == "gpu" && Wanted("other")) GTEST_SKIP() << "one GPU alone";
}

TEST_P(SampleTest, MayEndInManyWays) {
  if (GetParam() != "gpu") return;
  EXPECT_FALSE(Wanted("fail")) << "SKIPPED, says a test that fails";
  if (Wanted("crash")) std::abort();
  if (Wanted("third")) GTEST_SKIP() << "one GPU alone";
}

}  // namespace
