// Which link between a program and a GPU is broken, told with a driver and a plug-in that say what
// the test wants.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "kernels/gpu.h"
#include "telemetry/build_id.h"
#include "tests/harness/temporary_folder.h"

namespace muster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kVariables[] = {
    "FAKE_CUDA_INIT",  "FAKE_CUDA_VERSION", "FAKE_CUDA_COUNT",    "FAKE_CUDA_COMPUTE",
    "FAKE_CUDA_OTHER", "FAKE_PLUGIN_BUILD", "FAKE_PLUGIN_TOOLKIT"};

class GpuChainTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : kVariables) unsetenv(name);
    search_.build_id = "abc";
    search_.driver = FAKE_DRIVER;
    search_.plugin = FAKE_PLUGIN;
    search_.driver_version_file = folder_.path() + "/version";
    search_.nccl = "libfake_library.so";
    search_.library_dirs = {folder_.path(), FAKE_LIBRARY_DIR};
  }

  static void Say(const char* name, int value) {
    setenv(name, std::to_string(value).c_str(), /*overwrite=*/1);
  }
  std::string Broken(const GpuClaim& claim = {}) const {
    return GpuChain::Find(search_, claim).broken();
  }
  std::string Message() const { return std::string(GpuChain::Find(search_).status().message()); }

  const harness::TemporaryFolder folder_;
  GpuSearch search_;
};

TEST_F(GpuChainTest, AWholeChainReachesThePlugin) {
  std::ofstream(search_.driver_version_file)
      << "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 2025\n";
  const GpuChain chain = GpuChain::Find(search_);
  EXPECT_TRUE(chain.status().ok()) << chain.status().message();
  EXPECT_EQ(chain.broken(), "");
  EXPECT_EQ(chain.count(), 1);
  ASSERT_EQ(chain.links().size(), 8u);
  EXPECT_EQ(chain.links()[0].detail, "580.95.05, for CUDA up to 13.0");
  EXPECT_EQ(chain.links()[1].detail, "/gpu:0: Fake GPU, compute 9.0");
  EXPECT_EQ(chain.MakeDevice({}).status().message(), "the fake plug-in has no GPU");
}

TEST_F(GpuChainTest, NoDriver) {
  search_.driver = folder_.path() + "/libcuda.so.1";
  EXPECT_EQ(Broken(), "no usable GPU: driver: " + search_.driver + " is not there");
  EXPECT_THAT(Message(), HasSubstr("install NVIDIA's driver"));
  EXPECT_FALSE(GpuChain::Find(search_).MakeDevice({}).ok());
}

TEST_F(GpuChainTest, WithoutADriverThePluginIsLookedAtOnlyWhenAllIsAskedFor) {
  search_.driver = folder_.path() + "/libcuda.so.1";
  EXPECT_EQ(GpuChain::Find(search_).links().size(), 1u);
  const GpuChain all = GpuChain::Find(search_, {}, /*all=*/true);
  ASSERT_EQ(all.links().size(), 4u) << "driver, plug-in, libraries, build";
  EXPECT_FALSE(all.links()[0].ok);
  EXPECT_TRUE(all.links()[3].ok);
  EXPECT_THAT(all.broken(), HasSubstr("driver"));
}

TEST_F(GpuChainTest, ALibraryThatIsNoDriver) {
  search_.driver = std::string(FAKE_LIBRARY_DIR) + "/libfake_library.so";
  EXPECT_THAT(Broken(), HasSubstr("is no NVIDIA driver"));
}

TEST_F(GpuChainTest, ADriverThatDoesNotStart) {
  Say("FAKE_CUDA_INIT", 999);
  EXPECT_THAT(Broken(), HasSubstr("driver: for CUDA up to 13.0: it does not start (error 999)"));
}

TEST_F(GpuChainTest, NoDevice) {
  Say("FAKE_CUDA_COUNT", 0);
  EXPECT_EQ(Broken(), "no usable GPU: device: the driver shows no GPU");
  Say("FAKE_CUDA_INIT", 100);  // CUDA_ERROR_NO_DEVICE
  EXPECT_EQ(Broken(), "no usable GPU: device: the driver shows no GPU");
}

TEST(GpusOfTest, EachProcessHasItsOwnWhereThereAreEnough) {
  using Gpus = std::vector<int>;
  EXPECT_EQ(GpusOf({}, 8), Gpus({0}));
  EXPECT_EQ(GpusOf({.wanted = 4}, 8), Gpus({0, 1, 2, 3}));
  EXPECT_EQ(GpusOf({.wanted = 4}, 3), Gpus({0, 1, 2})) << "no more than there are";
  EXPECT_EQ(GpusOf({.wanted = 4, .process = 1, .processes = 2}, 8), Gpus({4, 5, 6, 7}));
  EXPECT_EQ(GpusOf({.wanted = 4, .process = 2, .processes = 3}, 8), Gpus({4, 5}));
  EXPECT_EQ(GpusOf({.wanted = 1, .process = 2, .processes = 3}, 8), Gpus({4}));
  EXPECT_EQ(GpusOf({.wanted = 4, .process = 3, .processes = 5}, 2), Gpus({1})) << "shared";
}

TEST_F(GpuChainTest, SeveralGpusNeedNccl) {
  Say("FAKE_CUDA_COUNT", 4);
  search_.nccl = "libfake_nccl.so.2";
  EXPECT_EQ(GpuChain::Find(search_).links().back().detail,
            "libfake_nccl.so.2 was not found; one GPU does without");
  EXPECT_EQ(Broken(), "");
  EXPECT_EQ(Broken({.wanted = 4}), "no usable GPU: NCCL: libfake_nccl.so.2 was not found");
  const absl::Status missing = GpuChain::Find(search_, {.wanted = 4}).status();
  EXPECT_THAT(std::string(missing.message()),
              AllOf(HasSubstr("one does without"), HasSubstr(FAKE_LIBRARY_DIR)));

  search_.nccl = "libfake_library.so";
  const GpuChain chain = GpuChain::Find(search_, {.wanted = 4});
  ASSERT_TRUE(chain.status().ok()) << chain.status();
  EXPECT_EQ(chain.gpus(), std::vector<int>({0, 1, 2, 3}));
  EXPECT_EQ(chain.links()[1].detail, "/gpu:0 to /gpu:3: Fake GPU, compute 9.0");
  EXPECT_THAT(chain.links().back().detail, HasSubstr("2.28.9, "));
  EXPECT_EQ(chain.MakeCommunicator().status().message(), "the fake plug-in connects nothing");
}

TEST_F(GpuChainTest, ALibraryThatIsNotNccl) {
  Say("FAKE_CUDA_COUNT", 2);
  search_.nccl = FAKE_DRIVER;
  EXPECT_EQ(Broken({.wanted = 2}), "no usable GPU: NCCL: " FAKE_DRIVER " is no NCCL");
}

TEST_F(GpuChainTest, GpusOfOneProcessAreAlike) {
  Say("FAKE_CUDA_COUNT", 4);
  Say("FAKE_CUDA_OTHER", 2);
  search_.nccl = "libfake_library.so";
  EXPECT_EQ(Broken({.wanted = 2}), "");
  EXPECT_EQ(Broken({.wanted = 3}),
            "no usable GPU: device: /gpu:0 is Fake GPU, compute 9.0, and /gpu:2 is Other GPU, "
            "compute 9.0");
}

TEST_F(GpuChainTest, NoPlugin) {
  search_.plugin = folder_.path() + "/libmuster_cuda.so";
  EXPECT_EQ(Broken(), "no usable GPU: plug-in: " + search_.plugin + " is not there");
}

TEST_F(GpuChainTest, APluginThatIsNoLibrary) {
  search_.plugin = folder_.path() + "/libmuster_cuda.so";
  std::ofstream(search_.plugin) << "text";
  EXPECT_THAT(Broken(), AllOf(HasSubstr("plug-in"), HasSubstr("does not load")));
}

TEST_F(GpuChainTest, ALibraryThatIsNotAPlugin) {
  search_.plugin = std::string(FAKE_LIBRARY_DIR) + "/libfake_library.so";
  EXPECT_THAT(Broken(), AllOf(HasSubstr("build"), HasSubstr("is no plug-in of Muster")));
}

// In a process of its own, begun anew: what was loaded once stays.
void SayMessage(const GpuSearch& search) {
  std::fputs(std::string(GpuChain::Find(search).status().message()).c_str(), stderr);
  std::exit(0);
}

TEST_F(GpuChainTest, AMissingLibraryIsNamedWithThePlacesThatWereSearched) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  search_.library_dirs = {folder_.path(), folder_.path() + "/no*where"};
  EXPECT_EXIT(SayMessage(search_), ::testing::ExitedWithCode(0),
              AllOf(HasSubstr("libraries: libfake_library.so was not found"),
                    HasSubstr("/no*where"), HasSubstr("LD_LIBRARY_PATH")));
}

TEST_F(GpuChainTest, ABrokenLibraryIsNamed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  std::ofstream(folder_.path() + "/libfake_library.so") << "text";
  search_.library_dirs = {folder_.path()};
  EXPECT_EXIT(SayMessage(search_), ::testing::ExitedWithCode(0),
              HasSubstr("/libfake_library.so does not load"));
}

TEST_F(GpuChainTest, APluginOfAnotherBuild) {
  setenv("FAKE_PLUGIN_BUILD", "xyz", 1);
  EXPECT_THAT(Broken(), HasSubstr("is of build xyz, and this program of build abc"));
}

TEST_F(GpuChainTest, ADriverTooOldForTheToolkit) {
  Say("FAKE_CUDA_VERSION", 12080);
  EXPECT_THAT(Message(), AllOf(HasSubstr("toolkit: the driver is for CUDA up to 12.8, and the "
                                         "plug-in was built with 13.0"),
                               HasSubstr("install driver 580 or later")));
  Say("FAKE_PLUGIN_TOOLKIT", 12090);
  EXPECT_EQ(Broken(), "") << "one major version is one";
}

TEST_F(GpuChainTest, AnArchitectureThatIsNotInTheBuild) {
  Say("FAKE_CUDA_COMPUTE", 70);
  EXPECT_THAT(Message(), AllOf(HasSubstr("architecture: the GPU is of compute 7.0, and the plug-in "
                                         "has code for 75 80 90+ptx"),
                               HasSubstr("CMAKE_CUDA_ARCHITECTURES=70")));
}

TEST_F(GpuChainTest, CodeRunsOnLaterMinorVersionsAndTranslatedOnLaterMajorOnes) {
  for (const int compute : {75, 80, 86, 89, 90, 100, 120}) {
    Say("FAKE_CUDA_COMPUTE", compute);
    EXPECT_EQ(Broken(), "") << compute;
  }
}

TEST_F(GpuChainTest, Bfloat16NeedsAGpuThatHasIt) {
  const auto message = [&](GpuPrecision precision) {
    return std::string(
        GpuChain::Find(search_).MakeDevice({.precision = precision}).status().message());
  };
  for (const int compute : {75, 80, 90}) {
    Say("FAKE_CUDA_COMPUTE", compute);
    EXPECT_EQ(GpuChain::Find(search_).has_bf16(), compute >= 80) << compute;
    EXPECT_EQ(message(GpuPrecision::kTf32), "the fake plug-in has no GPU") << compute;
  }
  EXPECT_EQ(message(GpuPrecision::kBf16), "the fake plug-in has no GPU") << "it was asked";
  Say("FAKE_CUDA_COMPUTE", 75);
  EXPECT_THAT(message(GpuPrecision::kBf16),
              AllOf(HasSubstr("precision: /gpu:0 is of compute 7.5, and bfloat16 begins with 8.0"),
                    HasSubstr("write training.precision: FP32, or TF32")));
}

// The plug-in of this build, where there is one: it loads without a driver, and is of this build.
TEST(GpuPluginTest, LoadsWithoutADriver) {
  const char* programs = std::getenv("MUSTER_BIN");
  ASSERT_NE(programs, nullptr) << "run by ctest";
  GpuSearch search = DefaultGpuSearch(BuildId(), nullptr, nullptr);
  search.plugin = std::string(programs) + "/libmuster_cuda.so";
  search.driver = "/nowhere/libcuda.so.1";
  if (!std::filesystem::exists(search.plugin)) {
    GTEST_SKIP() << "this build has no plug-in: no CUDA toolkit was found";
  }
  const GpuChain chain = GpuChain::Find(search, {}, /*all=*/true);
  ASSERT_EQ(chain.links().size(), 4u);
  for (size_t i = 1; i < 4; ++i) EXPECT_TRUE(chain.links()[i].ok) << chain.links()[i].detail;
}

// NCCL itself, asked for a communicator where there is no GPU: it says so.
TEST(GpuPluginTest, NcclSaysWhyItConnectsNoGpus) {
  if (std::filesystem::exists("/proc/driver/nvidia/version")) GTEST_SKIP() << "there is a driver";
  const char* programs = std::getenv("MUSTER_BIN");
  ASSERT_NE(programs, nullptr) << "run by ctest";
  for (const char* name : kVariables) unsetenv(name);
  setenv("FAKE_CUDA_COUNT", "2", 1);
  GpuSearch search = DefaultGpuSearch(BuildId(), nullptr, nullptr);
  search.plugin = std::string(programs) + "/libmuster_cuda.so";
  search.driver = FAKE_DRIVER;
  if (!std::filesystem::exists(search.plugin)) {
    GTEST_SKIP() << "this build has no plug-in: no CUDA toolkit was found";
  }
  const GpuChain chain = GpuChain::Find(search, {.wanted = 2});
  if (chain.broken().find("NCCL") != std::string::npos) GTEST_SKIP() << chain.broken();
  ASSERT_TRUE(chain.status().ok()) << chain.status();
  const absl::Status status = chain.MakeCommunicator().status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("could not connect 2 GPUs: NCCL says "));
  EXPECT_EQ(status.message().find('\n'), std::string::npos) << "one line";
}

}  // namespace
}  // namespace muster
