// The program make_speech_data, run as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "tests/harness/temporary_folder.h"
#include "worker/modules/speech_commands/corpus.h"
#include "worker/modules/speech_commands/split.h"
#include "worker/modules/speech_commands/wav.h"

namespace muster::worker {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

struct Result {
  int code = -1;
  std::string text;  // stdout and stderr
};

using Files = std::map<std::string, std::string>;

class MakerTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* bin = std::getenv("MUSTER_BIN");
    program_ = std::string(bin == nullptr ? "build/bin" : bin) + "/make_speech_data";
    ASSERT_TRUE(fs::exists(program_)) << program_ << " is not built";
  }

  Result Run(const std::string& args) const {
    const std::string command = program_ + " --noise-seconds 3 " + args + " 2>&1";
    FILE* pipe = popen(command.c_str(), "r");
    Result result;
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) result.text.append(buffer, n);
    const int state = pclose(pipe);
    result.code = WIFEXITED(state) ? WEXITSTATUS(state) : -1;
    return result;
  }
  static Files Read(const std::string& dir) {
    Files files;
    for (const auto& entry : fs::recursive_directory_iterator(dir)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      files[fs::relative(entry.path(), dir).string()] = {std::istreambuf_iterator<char>(in), {}};
    }
    return files;
  }

  const harness::TemporaryFolder temporary_;
  const std::string dir_ = temporary_.path();
  std::string program_;
};

TEST_F(MakerTest, TheSameBytesWhateverTheProcesses) {
  ASSERT_EQ(Run("--out " + dir_ + "/a --clips 150 --processes 1").code, 0);
  ASSERT_EQ(Run("--out " + dir_ + "/b --clips 150 --processes 3").code, 0);
  const Files a = Read(dir_ + "/a"), b = Read(dir_ + "/b");
  EXPECT_EQ(a.size(), 150 + 6 + 1);  // clips, noises, what made them
  EXPECT_TRUE(a == b);
  ASSERT_EQ(Run("--out " + dir_ + "/c --clips 150 --seed 2").code, 0);
  EXPECT_FALSE(a == Read(dir_ + "/c"));
}

TEST_F(MakerTest, NClipsAreAPrefixOfTwiceAsMany) {
  ASSERT_EQ(Run("--out " + dir_ + "/a --clips 75").code, 0);
  ASSERT_EQ(Run("--out " + dir_ + "/b --clips 150").code, 0);
  const Files a = Read(dir_ + "/a"), b = Read(dir_ + "/b");
  EXPECT_EQ(b.size(), a.size() + 75);
  for (const auto& [name, bytes] : a) {
    ASSERT_TRUE(b.contains(name)) << name;
    EXPECT_TRUE(bytes == b.at(name)) << name;
  }
  // The shorter set grows into the longer one.
  ASSERT_EQ(Run("--out " + dir_ + "/a --clips 150").code, 0);
  EXPECT_TRUE(Read(dir_ + "/a") == b);
}

TEST_F(MakerTest, WhatItMakesIsADataSet) {
  ASSERT_EQ(Run("--out " + dir_ + "/a --clips 600 --words yes,no --unknown bird,cat").code, 0);
  const auto corpus = Corpus::Scan({.data_dir = dir_ + "/a", .wanted_words = {"yes", "no"}});
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  std::map<std::string, std::set<Split>> splits_of;
  for (const Split split : {Split::kTraining, Split::kValidation, Split::kTesting}) {
    EXPECT_GT(corpus->clips(split).size(), 30);
    for (const Corpus::Clip& clip : corpus->clips(split)) {
      if (clip.path.empty()) continue;
      std::vector<int16_t> samples;
      ASSERT_EQ(ReadWav(dir_ + "/a/" + clip.path, 16000, 1 << 20, samples), absl::OkStatus());
      EXPECT_EQ(samples.size(), 16000);
      // Somebody speaks: the loudest sample is at least −14 dB.
      EXPECT_GE(*std::max_element(samples.begin(), samples.end()) -
                    *std::min_element(samples.begin(), samples.end()),
                0.199 * 32768);
      splits_of[std::string(Speaker(fs::path(clip.path).filename().string()))].insert(split);
    }
  }
  EXPECT_GT(splits_of.size(), 300);
  for (const auto& [speaker, splits] : splits_of) EXPECT_EQ(splits.size(), 1) << speaker;
}

TEST_F(MakerTest, AKilledRunLeavesWholeFilesAndIsCompletedByTheSameCommand) {
  const std::string out = dir_ + "/a";
  const pid_t pid = fork();
  if (pid == 0) {
    execl(program_.c_str(), program_.c_str(), "--out", out.c_str(), "--clips", "2000",
          "--noise-seconds", "3", nullptr);
    _exit(127);
  }
  // Killed as soon as there is a first clip: long before the last of two thousand.
  const auto clips = [&] {
    int count = 0;
    std::error_code error;
    for (fs::recursive_directory_iterator it(out, error), end; !error && it != end;
         it.increment(error)) {
      count += it->path().string().find("_nohash_") != std::string::npos;
    }
    return count;
  };
  while (clips() == 0 && waitpid(pid, nullptr, WNOHANG) == 0) {
    std::this_thread::yield();
  }
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  for (const auto& [name, bytes] : Read(out)) {
    if (name.ends_with(".wav")) {
      EXPECT_EQ(CheckWav(out + "/" + name, 16000), absl::OkStatus());
    }
  }
  ASSERT_EQ(Run("--out " + out + " --clips 200").code, 0);
  ASSERT_EQ(Run("--out " + dir_ + "/b --clips 200").code, 0);
  const Files a = Read(out);
  for (const auto& [name, bytes] : Read(dir_ + "/b")) EXPECT_TRUE(a.at(name) == bytes) << name;
}

TEST_F(MakerTest, ASetIsNoMixture) {
  ASSERT_EQ(Run("--out " + dir_ + "/a --clips 5").code, 0);
  const Result result = Run("--out " + dir_ + "/a --clips 5 --seed 2");
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.text, HasSubstr(dir_ + "/a: the set there was made with other settings; write "
                                            "another --out, or remove it."));
}

TEST_F(MakerTest, SomebodyElsesSetIsLeftAlone) {
  fs::create_directories(dir_ + "/a/yes");
  const Result result = Run("--out " + dir_ + "/a --clips 5");
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.text, HasSubstr(dir_ + "/a: holds folders that make_speech_data did not make; "
                                            "write another --out"));
  EXPECT_EQ(Run("--out " + dir_ + "/a --clips 5 --if-missing").code, 0);
  EXPECT_TRUE(Read(dir_ + "/a").empty());
}

TEST_F(MakerTest, IfMissingMakesAndCompletes) {
  ASSERT_EQ(Run("--out " + dir_ + "/a --clips 5 --if-missing").code, 0);
  const Files whole = Read(dir_ + "/a");
  EXPECT_EQ(whole.size(), 5 + 6 + 1);
  fs::remove_all(dir_ + "/a/yes");
  ASSERT_EQ(Run("--out " + dir_ + "/a --clips 5 --if-missing").code, 0);
  EXPECT_TRUE(Read(dir_ + "/a") == whole);
}

TEST_F(MakerTest, AFolderThatCannotBeMadeIsNamed) {
  std::ofstream(dir_ + "/file") << "x";
  const Result result = Run("--out " + dir_ + "/file/a --clips 5");
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.text, HasSubstr("cannot make the folder " + dir_ + "/file/a"));
}

TEST_F(MakerTest, WrongFlagsAreInputErrors) {
  EXPECT_EQ(Run("--clips 5").code, 2);
  EXPECT_EQ(Run("--out " + dir_ + "/a --clips 0").code, 2);
  EXPECT_EQ(Run("--out " + dir_ + "/a --engine nobody").code, 2);
}

TEST_F(MakerTest, HelpNamesTheLicence) {
  const Result result = Run("--help");
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.text, HasSubstr("GNU General Public License"));
}

TEST_F(MakerTest, AnotherSynthesiserMakesATestSet) {
  const Result result = Run("--out " + dir_ + "/a --clips 24 --engine flite");
  if (result.text.find("install the package flite") != std::string::npos) {
    GTEST_SKIP() << "the program flite is not installed";
  }
  ASSERT_EQ(result.code, 0) << result.text;
  int clips = 0;
  for (const auto& [name, bytes] : Read(dir_ + "/a")) {
    if (name.find("_nohash_") == std::string::npos) continue;
    ++clips;
    EXPECT_EQ(WhichSplit(fs::path(name).filename().string(), 10, 10), Split::kTesting);
  }
  EXPECT_EQ(clips, 24);
}

}  // namespace
}  // namespace muster::worker
