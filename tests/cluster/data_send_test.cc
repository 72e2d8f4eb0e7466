// Data on its way to hosts that lack it. A shell of this machine, with a home of its own, stands
// for each host: what it runs is what ssh would run there.
#include "cluster/data_send.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cluster/side_task.h"
#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"
#include "worker/data_folder.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr char kRoot[] = "~/.muster/data";

class DataSendTest : public ::testing::Test {
 protected:
  DataSendTest() {
    Write("yes/a.wav", std::string(300, 'a'));
    Write("yes/b.wav", std::string(5'000, 'b'));
    Write("it's no/c.wav", "");
  }
  void Write(const std::string& name, const std::string& text) {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }
  // `around`: a command of the shell in which "$0" is what is to be run.
  RunHost Host(const std::string& name, const std::string& around = "eval \"$0\"") {
    fs::create_directories(files_ / name);
    RunHost host;
    host.link.name = name;
    host.link.argv = {"/bin/sh", "-c", around, "replaced"};
    host.link.environment = {"HOME=" + (files_ / name).string(),
                             "PATH=" + std::string(std::getenv("PATH"))};
    host.link.explain = [](const std::string& text) { return "said: " + text; };
    return host;
  }
  DataSet Measured(const std::string& value = "data/clips") {
    const auto data = MeasureData(value, folder_.string());
    EXPECT_TRUE(data.ok()) << data.status();
    return *data;
  }
  absl::Status Send(const RunHost& host, const DataSet& data) {
    told_.clear();
    return SendData(host, kRoot, data, [this](int64_t bytes) { told_.push_back(bytes); });
  }
  // What a host has of the data, by path.
  std::map<std::string, std::string> Arrived(const std::string& host,
                                             const std::string& value = "data/clips") {
    std::map<std::string, std::string> files;
    const fs::path there = Root(host) / worker::NameWhereBrought(value);
    for (const auto& entry : fs::recursive_directory_iterator(there)) {
      if (!entry.is_regular_file() || entry.path().filename() == ".muster-stamp") continue;
      files[entry.path().lexically_relative(there).string()] = *ReadFile(entry.path().string());
    }
    return files;
  }
  fs::path Root(const std::string& host) const { return files_ / host / ".muster/data"; }

  const harness::TemporaryFolder temporary_;
  const fs::path files_ = temporary_.path();
  const fs::path folder_ = files_ / "here";
  std::vector<int64_t> told_;
};

TEST_F(DataSendTest, AHostThatLacksItHasItAfterwards) {
  ASSERT_TRUE(Send(Host("a"), Measured()).ok());
  EXPECT_THAT(Arrived("a"),
              ElementsAre(Pair("it's no/c.wav", ""), Pair("yes/a.wav", std::string(300, 'a')),
                          Pair("yes/b.wav", std::string(5'000, 'b'))));
  EXPECT_FALSE(told_.empty());
}

TEST_F(DataSendTest, WhatHasNotChangedIsNotSentAgain) {
  ASSERT_TRUE(Send(Host("a"), Measured()).ok());
  ASSERT_TRUE(Send(Host("a"), Measured()).ok());
  EXPECT_THAT(told_, IsEmpty());
}

TEST_F(DataSendTest, WhatHasChangedTakesThePlaceOfTheOld) {
  ASSERT_TRUE(Send(Host("a"), Measured()).ok());
  fs::remove(folder_ / "yes/b.wav");
  Write("yes/a.wav", std::string(300, 'x'));
  ASSERT_TRUE(Send(Host("a"), Measured()).ok());
  EXPECT_FALSE(told_.empty());
  EXPECT_THAT(Arrived("a"),
              ElementsAre(Pair("it's no/c.wav", ""), Pair("yes/a.wav", std::string(300, 'x'))));
}

TEST_F(DataSendTest, AHostWithAFolderOfThatPathKeepsToIt) {
  const std::string path = (files_ / "a/own data").string();
  const RunHost host = Host("a");
  fs::create_directories(path);
  ASSERT_TRUE(Send(host, Measured(path)).ok());
  EXPECT_THAT(told_, IsEmpty());
  EXPECT_FALSE(fs::exists(Root("a")));
}

TEST_F(DataSendTest, AnAddressIsNoPathOfTheHost) {
  ASSERT_TRUE(Send(Host("a"), Measured("s3://bucket/clips")).ok());
  EXPECT_EQ(Arrived("a", "s3://bucket/clips").size(), 3u);
}

TEST_F(DataSendTest, LinksArriveAsWhatTheyPointAt) {
  fs::create_directories(files_ / "elsewhere");
  std::ofstream(files_ / "elsewhere/d.wav") << "d";
  fs::create_directory_symlink(files_ / "elsewhere", folder_ / "linked");
  ASSERT_TRUE(Send(Host("a"), Measured()).ok());
  EXPECT_EQ(Arrived("a").at("linked/d.wav"), "d");
}

TEST_F(DataSendTest, WhatAShellSaysFirstDoesNoHarm) {
  ASSERT_TRUE(Send(Host("a", "echo welcome; echo; eval \"$0\""), Measured()).ok());
  EXPECT_EQ(Arrived("a").size(), 3u);
}

// After so many bytes nothing more comes: in the middle of a file, and between two.
TEST_F(DataSendTest, WhatDidNotArriveWholeIsNotThere) {
  for (const int bytes : {700, 1024, 2048}) {
    const absl::Status sent =
        Send(Host("a", fmt::format("head -c {} | eval \"$0\"", bytes)), Measured());
    EXPECT_THAT(std::string(sent.message()),
                AllOf(HasSubstr("host a: data data/clips: "), HasSubstr("did not arrive whole")))
        << bytes;
    EXPECT_TRUE(fs::is_empty(Root("a"))) << bytes;
  }
}

TEST_F(DataSendTest, AHostThatCannotBeReachedSaysWhy) {
  const absl::Status sent = Send(Host("a", "echo no such host >&2; exit 255"), Measured());
  EXPECT_EQ(sent.message(), "host a: data data/clips: said: no such host\n");
}

TEST_F(DataSendTest, ADiskThatIsTooSmallIsToldBeforeAnythingIsSent) {
  fs::create_directories(files_ / "bin");
  std::ofstream(files_ / "bin/df") << "#!/bin/sh\necho head\necho disk 1 1 3 1% /\n";
  fs::permissions(files_ / "bin/df", fs::perms::owner_all);
  RunHost host = Host("a");
  host.link.environment.back() =
      fmt::format("PATH={}:{}", (files_ / "bin").string(), std::getenv("PATH"));
  const absl::Status sent = Send(host, Measured());
  EXPECT_THAT(std::string(sent.message()), HasSubstr("0 MB are free in ~/.muster/data"));
  EXPECT_THAT(told_, IsEmpty());
  EXPECT_TRUE(fs::is_empty(Root("a")));
}

TEST_F(DataSendTest, AFolderThatChangesMeanwhileIsNotSent) {
  const DataSet data = Measured();
  Write("yes/later.wav", "later");
  EXPECT_FALSE(Send(Host("a"), data).ok());
  EXPECT_TRUE(fs::is_empty(Root("a")));
}

TEST_F(DataSendTest, SeveralHostsGetItAtOnceAndTheUserIsTold) {
  const auto send = [&] {
    std::vector<std::string> said;
    const auto sending = DataSending::Start({Host("a"), Host("b")}, kRoot, {Measured()});
    EXPECT_TRUE(sending.ok()) << sending.status();
    const absl::Status sent = (*sending)->Wait(
        [] { return absl::OkStatus(); }, [&](const std::string& line) { said.push_back(line); });
    EXPECT_TRUE(sent.ok()) << sent;
    return said;
  };
  EXPECT_THAT(send(), testing::UnorderedElementsAre("sending data/clips (3 files, 0.0 MB) to a",
                                                    "sending data/clips (3 files, 0.0 MB) to b"));
  EXPECT_EQ(Arrived("a").size(), 3u);
  EXPECT_EQ(Arrived("b").size(), 3u);
  EXPECT_THAT(send(), IsEmpty());
}

TEST_F(DataSendTest, OneHostThatCannotHaveItIsNamedAndTheOthersAreLeftWhole) {
  const auto sending = DataSending::Start(
      {Host("a", "exec sleep 1000"), Host("b", "echo muster: cannot make x; exit 3")}, kRoot,
      {Measured()});
  ASSERT_TRUE(sending.ok()) << sending.status();
  const absl::Status sent =
      (*sending)->Wait([] { return absl::OkStatus(); }, [](const std::string&) {});
  EXPECT_EQ(sent.message(), "host b: data data/clips: cannot make x");
}

TEST_F(DataSendTest, WhoWaitsCanBeInterrupted) {
  const auto sending = DataSending::Start({Host("a", "exec sleep 1000")}, kRoot, {Measured()});
  ASSERT_TRUE(sending.ok()) << sending.status();
  EXPECT_TRUE(absl::IsCancelled(
      (*sending)->Wait([] { return absl::CancelledError("enough"); }, [](const std::string&) {})));
}

TEST(MeasureDataTest, AFolderThatIsNotThereIsToldByName) {
  EXPECT_THAT(std::string(MeasureData("x", "/nowhere/at/all").status().message()),
              HasSubstr("/nowhere/at/all: cannot be listed"));
}

}  // namespace
}  // namespace muster::cluster
