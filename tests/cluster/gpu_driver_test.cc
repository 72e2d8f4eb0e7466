// What a machine says of NVIDIA's driver, on hosts that are shells of this machine.
#include "cluster/gpu_driver.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(GpuDriver, IsTheOldestThatAMachineTellsOf) {
  EXPECT_EQ(ParseDriver({.out = "580.95.05\n"}), 580);
  EXPECT_EQ(ParseDriver({.out = "590.1\n580.95.05\n"}), 580);
  for (const char* none : {"", "\n", "No devices were found\n", "580\nfailed\n", "-1\n", "0.5\n",
                           "99999999999999999999.1\n"}) {
    EXPECT_EQ(ParseDriver({.out = none}), std::nullopt) << none;
  }
  EXPECT_EQ(ParseDriver({.out = "580.95.05\n", .code = 9}), std::nullopt);
}

class GpuDriverTest : public ::testing::Test {
 protected:
  // Its PATH has this `nvidia-smi` (absent: none) and `apt-get` before this machine's.
  RunHost Host(const std::string& name, const std::string& nvidia_smi,
               const std::string& apt_get = "exit 1") {
    const std::string bin = folder_.path() + "/" + name;
    fs::create_directories(bin);
    const auto program = [&](const char* file, const std::string& text) {
      std::ofstream(bin + "/" + file) << "#!/bin/sh\n" << text << "\n";
      fs::permissions(bin + "/" + file, fs::perms::owner_all);
    };
    if (!nvidia_smi.empty()) program("nvidia-smi", nvidia_smi);
    program("apt-get", apt_get);
    for (const char* other : {"curl", "dpkg", "modprobe"}) program(other, "exit 0");
    program("sudo", "shift; exec \"$@\"");
    RunHost host;
    host.link.name = name;
    host.link.argv = {"/bin/sh", "-c", "exit 9"};
    host.link.environment = {"PATH=" + bin + ":/usr/bin:/bin"};
    host.link.explain = [](const std::string& text) { return "explained: " + text; };
    return host;
  }
  std::string Check(const std::vector<RunHost>& hosts, bool install = false) {
    const Patience patience = RealPatience();
    const absl::Status status = CheckDrivers(
        hosts, 580, install, patience, [this](const std::string& line) { said_.push_back(line); });
    return std::string(status.message());
  }

  const harness::TemporaryFolder folder_;
  std::vector<std::string> said_;
};

TEST_F(GpuDriverTest, AMachineWhoseDriverWillNotDoIsNamed) {
  const RunHost good = Host("good", "[ \"$1\" = --query-gpu=driver_version ] && echo 580.95.05"),
                old = Host("old", "echo 535.1"), none = Host("none", ""),
                broken = Host("broken", "echo 'NVIDIA-SMI has failed\nsee there'; exit 9");
  EXPECT_EQ(Check({good, good}), "");
  EXPECT_EQ(Check({good, old}),
            "host old has NVIDIA's driver 535, and this build needs 580 or a later one: write an "
            "image that has it, cluster.installDriver: true, or training.device: CPU");
  EXPECT_THAT(Check({none}), AllOf(HasSubstr("host none has no driver of NVIDIA's (it says: "),
                                   HasSubstr("not found")));
  EXPECT_THAT(Check({broken}), HasSubstr("(it says: NVIDIA-SMI has failed)"));
  EXPECT_THAT(Check({Host("away", "exit 255")}), HasSubstr("host away: explained: "));
  EXPECT_THAT(said_, IsEmpty());
}

TEST_F(GpuDriverTest, ItIsInstalledOnlyWhereItIsMissingAndLookedAtAgain) {
  const std::string bin = folder_.path() + "/bare";
  const RunHost bare =
      Host("bare", "",
           fmt::format("case \"$*\" in *\" install \"*nvidia*) cp {0}/apt-get {0}/nvidia-smi;; "
                       "*query*) echo 580.95.05;; esac\n[ $0 = {0}/apt-get ] || echo 580.95.05",
                       bin));
  const RunHost good = Host("good", "echo 590.1", "touch " + folder_.path() + "/asked");
  EXPECT_EQ(Check({good, bare}, /*install=*/true), "");
  EXPECT_THAT(said_, ElementsAre("installing NVIDIA's driver 580 or a later one on 1 machine"));
  EXPECT_FALSE(fs::exists(folder_.path() + "/asked")) << "it was good";
  EXPECT_EQ(Check({bare}), "") << "it stays";
}

TEST_F(GpuDriverTest, WhatCannotBeInstalledOrDoesNotHelpIsSaid) {
  EXPECT_THAT(Check({Host("refused", "", "echo 'E: no such package' >&2; exit 100")}, true),
              HasSubstr("cannot be installed on host refused: E: no such package"));
  EXPECT_THAT(Check({Host("vain", "echo 535.1", "exit 0")}, true),
              HasSubstr("host vain has NVIDIA's driver 535 after it was installed"));
}

}  // namespace
}  // namespace muster::cluster
