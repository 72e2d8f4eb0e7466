// Bad input: one clear line that says what is wrong, where, and what to do; nothing lost.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/e2e/programs.h"
#include "worker/modules/speech_commands/split.h"

namespace muster::e2e {
namespace {

namespace fs = std::filesystem;
using master::RunState;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

// The launch is refused with exactly this text before anything starts.
void ExpectRefused(const std::vector<std::string>& words, const std::string& error) {
  const Ended run = RunToEnd(words);
  EXPECT_EQ(run.code, 2);
  EXPECT_EQ(run.err, error + "\n");
  EXPECT_THAT(run.out, Not(HasSubstr("PREPARING")));
  ExpectForHumans(run);
}

// A role refuses what the user gave it, and the first line of stderr is this.
void ExpectFails(const std::vector<std::string>& words, const std::string& error) {
  const Ended run = RunToEnd(words);
  EXPECT_EQ(run.code, 2) << run.out;
  EXPECT_EQ(FirstLine(run.err), "error: " + error);
  ExpectForHumans(run);
}

TEST(BadConfig, IsRefusedByFileLineAndField) {
  const std::string folder = NewFolder("config");
  ExpectRefused({"launch", "--config", folder + "/absent.yaml"},
                folder +
                    "/absent.yaml: cannot be read: No such file or directory; give the path of "
                    "a job file after --config");
  WriteText(folder + "/tier.yaml", "trainingInput: {scaleTier: CUSTM}\n");
  ExpectRefused({"launch", "--config", folder + "/tier.yaml", "--module-name", "speech_commands"},
                folder +
                    "/tier.yaml:1:28: trainingInput.scaleTier: 'CUSTM' is not one of BASIC, "
                    "STANDARD_1, PREMIUM_1, BASIC_GPU, BASIC_TPU, CUSTOM; write `CUSTOM`");
}

TEST(BadConfig, UnknownNamesGetTheNearestOne) {
  ExpectRefused({"launch", "--scale-tier", "BASIC", "--module-name", "speach_commands.train"},
                "--module-name: no module is called 'speach_commands'; write `speech_commands`");
  ExpectRefused({"launch", "--scale-tier", "BASIC", "--module-name", "speech_commands.train", "--",
                 "--model_architecture=tiny_cnv"},
                "-- --model_architecture: no model is called 'tiny_cnv'; write `tiny_conv`");
  ExpectRefused({"launch", "--scale-tier", "CUSTOM", "--master-machine-type", "complx_model_m",
                 "--module-name", "speech_commands.train"},
                "--master-machine-type: unknown machine type 'complx_model_m'; write "
                "`complex_model_m`");
}

TEST(BadConfig, AGpuThatIsNotThereIsRefusedWithTheReason) {
  const std::string folder = NewFolder("gpu");
  const Ended run = RunToEnd(LaunchWords(folder, {.training = "device: GPU"}));
  // On a machine with one, the job would run.
  if (run.code == 0) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err, HasSubstr("training.device: no usable GPU: driver: "));
  EXPECT_THAT(run.err, HasSubstr("or write AUTO or CPU\n"));
  EXPECT_FALSE(fs::exists(folder + "/job"));
}

TEST(BadData, AnAbsentOrEmptyFolderIsNamedWithHowToGetData) {
  const std::string folder = NewFolder("data");
  const std::string how =
      "make a set with `make_speech_data --out {} --clips 8000`, or unpack the "
      "Speech Commands archive and point --data_dir at it";
  const std::string absent = folder + "/absent", empty = NewFolder("empty");
  ExpectFails(LaunchWords(folder, {.data = absent}),
              fmt::format("chief-0: {}: no such directory (--data_dir); {}", absent,
                          fmt::format(fmt::runtime(how), absent)));
  ExpectFails(LaunchWords(folder, {.data = empty}),
              fmt::format("chief-0: {}: holds no folders with .wav files (--data_dir); {}", empty,
                          fmt::format(fmt::runtime(how), empty)));
}

// What this process and those that it starts may have of addresses, as long as it lives.
class AddressLimit {
 public:
  explicit AddressLimit(rlim_t bytes) {
    getrlimit(RLIMIT_AS, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_AS, &limit);
  }
  ~AddressLimit() { setrlimit(RLIMIT_AS, &before_); }
  AddressLimit(const AddressLimit&) = delete;
  AddressLimit& operator=(const AddressLimit&) = delete;

 private:
  rlimit before_ = {};
};

TEST(BadConfig, ABatchBeyondTheMemoryIsNamed) {
  const AddressLimit limit(rlim_t{8} << 30);
  const Ended run = RunToEnd(LaunchWords(NewFolder("large"), {.batch = 1'000'000}));
  EXPECT_EQ(run.code, 1);
  EXPECT_EQ(FirstLine(run.err),
            "error: chief-0: training.batchSize is 1000000: /cpu:0 has no memory for another "
            "14953.6 MiB; write a smaller one");
  ExpectForHumans(run);
}

// A copy of SpeechData() that may be spoiled.
std::string CopyOfData() {
  const std::string folder = NewFolder("copy");
  fs::copy(SpeechData(), folder, fs::copy_options::recursive);
  return folder;
}

TEST(BadData, AWordWithoutClipsIsNamed) {
  const std::string folder = NewFolder("word"), data = CopyOfData();
  fs::remove_all(data + "/yes");
  const Ended run = RunToEnd(LaunchWords(folder, {.data = data}));
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err, HasSubstr(data + ": no clips of yes (--wanted_words); there are clips of "));
  ExpectForHumans(run);
}

// Training clips of the wanted word "go" and others, sorted.
std::vector<std::string> TrainingClips(const std::string& data) {
  std::vector<std::string> clips;
  for (const char* word : {"go", "no", "up", "yes"}) {
    for (const auto& entry : fs::directory_iterator(data + "/" + word)) {
      const std::string name = entry.path().filename().string();
      if (worker::WhichSplit(name, 10, 10) == worker::Split::kTraining) {
        clips.push_back(entry.path());
      }
    }
  }
  std::sort(clips.begin(), clips.end());
  return clips;
}

// A WAV header of another form than the module takes, and half a second of silence.
void WriteOddWav(const std::string& path, int channels, int rate, int bits) {
  const auto number = [](uint32_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> 8 * i & 0xff);
    return text;
  };
  const uint32_t frame = channels * bits / 8, size = frame * rate / 2;
  WriteText(path, "RIFF" + number(36 + size, 4) + "WAVEfmt " + number(16, 4) + number(1, 2) +
                      number(channels, 2) + number(rate, 4) + number(rate * frame, 4) +
                      number(frame, 2) + number(bits, 2) + "data" + number(size, 4) +
                      std::string(size, '\0'));
}

struct BadWav {
  const char* name;
  const char* says;
  void (*spoil)(const std::string& path);
};

class BadClip : public ::testing::TestWithParam<BadWav> {};

// One bad clip is less than 1 % of the training split, twenty are more.
TEST_P(BadClip, OneIsSkippedWithAWarningAndManyStopTheJob) {
  const std::string folder = NewFolder("wav"), data = CopyOfData();
  const std::vector<std::string> clips = TrainingClips(data);
  ASSERT_GT(clips.size(), 20U);
  GetParam().spoil(clips[0]);
  const Ended one = RunToEnd(LaunchWords(folder, {.steps = 20, .data = data}));
  EXPECT_EQ(one.code, 0) << one.err;
  EXPECT_THAT(one.out, HasSubstr("warning: chief-0: skipped 1 bad clip of "));
  EXPECT_THAT(one.out, HasSubstr(clips[0] + ": " + GetParam().says));
  ExpectForHumans(one);

  for (int i = 1; i < 20; ++i) GetParam().spoil(clips[i]);
  const std::string next = NewFolder("wav");
  const Ended many = RunToEnd(LaunchWords(next, {.steps = 20, .data = data}));
  EXPECT_EQ(many.code, 1);
  EXPECT_THAT(FirstLine(many.err), HasSubstr("error: chief-0: more than 1 % of the "));
  EXPECT_THAT(FirstLine(many.err), HasSubstr(": convert or remove them. The first "));
  EXPECT_THAT(FirstLine(many.err), HasSubstr(GetParam().says));
  ExpectForHumans(many);
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, BadClip,
    ::testing::Values(BadWav{"truncated", "truncated: chunk 'data' has 956 of 32000 bytes",
                             [](const std::string& path) { fs::resize_file(path, 1000); }},
                      BadWav{"stereo", "2 channels; convert it to mono",
                             [](const std::string& path) { WriteOddWav(path, 2, 16000, 16); }},
                      BadWav{"eight_bits", "8 bits per sample; convert it to 16",
                             [](const std::string& path) { WriteOddWav(path, 1, 16000, 8); }},
                      BadWav{"cd_rate", "44100 Hz; convert it to 16000 Hz (--sample_rate)",
                             [](const std::string& path) { WriteOddWav(path, 1, 44100, 16); }},
                      BadWav{"zero_length", "empty file",
                             [](const std::string& path) { fs::resize_file(path, 0); }},
                      BadWav{
                          "no_wav", "not a WAV file",
                          [](const std::string& path) { WriteText(path, std::string(500, 'x')); }}),
    [](const auto& info) { return std::string(info.param.name); });

// Runs as nobody where the test runs as root, whom permissions do not stop.
Ended RunUnprivileged(const std::vector<std::string>& words) {
  return Running(words, /*unprivileged=*/getuid() == 0).Wait();
}

TEST(Permissions, AFolderThatMayNotBeReadOrWrittenIsNamed) {
  if (RunUnprivileged({"launch", "--help"}).code != 0) {
    GTEST_SKIP() << "root is stopped by no permission, and nobody may not run the programs";
  }
  const std::string folder = NewFolder("data"), data = NewFolder("locked");
  const std::vector<std::string> words = LaunchWords(folder, {.data = data});
  fs::permissions(data, fs::perms::none);
  const Ended reading = RunUnprivileged(words);
  EXPECT_EQ(reading.code, 2);
  EXPECT_EQ(FirstLine(reading.err),
            fmt::format("error: chief-0: {}: cannot be listed (--data_dir): Permission denied; "
                        "check the owner and the permissions of the folder",
                        data));
  ExpectForHumans(reading);
  fs::permissions(data, fs::perms::owner_all);

  const std::string locked = NewFolder("locked");
  const std::vector<std::string> into = LaunchWords(locked, {});
  fs::permissions(locked, fs::perms::owner_read | fs::perms::others_read | fs::perms::others_exec);
  const Ended writing = RunUnprivileged(into);
  EXPECT_EQ(writing.code, 2);
  EXPECT_EQ(writing.err,
            fmt::format("error: cannot use {}/job as a folder of the job directory (another: "
                        "--job-dir): Permission denied; check the owner and the permissions of the "
                        "folder\n",
                        locked));
  fs::permissions(locked, fs::perms::owner_all);
}

TEST(JobDirectory, AFileIsNoDirectory) {
  const std::string folder = NewFolder("file");
  const std::vector<std::string> words = LaunchWords(folder, {});
  WriteText(folder + "/job", "a file\n");
  const Ended run = RunToEnd(words);
  EXPECT_EQ(run.code, 2);
  EXPECT_EQ(run.err, fmt::format("error: cannot use {}/job as a folder: it is a file; move it away "
                                 "or choose another --job-dir\n",
                                 folder));
}

// A file system of one MiB: two checkpoints of tiny_conv fit, and not a third.
class FullDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    disk_ = NewFolder("disk");
    if (getuid() != 0 || mount("tmpfs", disk_.c_str(), "tmpfs", 0, "size=1m") != 0) {
      GTEST_SKIP() << "a small disk can be mounted only by root";
    }
    mounted_ = true;
  }
  void TearDown() override {
    if (mounted_) umount2(disk_.c_str(), MNT_DETACH);
  }
  std::string disk_;
  bool mounted_ = false;
};

TEST_F(FullDisk, KeepsTheLastGoodCheckpointAndTheSameCommandGoesOnOnceThereIsSpace) {
  const std::vector<std::string> words = LaunchWords(disk_, {.steps = 60});
  const Ended run = RunToEnd(words);
  EXPECT_EQ(run.code, 1);
  EXPECT_EQ(
      FirstLine(run.err),
      fmt::format("error: the last checkpoint could not be written: cannot write "
                  "{}/job/checkpoints/step-60/ps-0.safetensors: No space left on device; free "
                  "some space there, then run the same command again",
                  disk_));
  EXPECT_THAT(run.out, HasSubstr("warning: the checkpoint of step 60 was not written: "));
  ExpectForHumans(run);
  EXPECT_TRUE(fs::exists(disk_ + "/job/checkpoints/step-40/manifest.json"));

  ASSERT_EQ(mount("tmpfs", disk_.c_str(), "tmpfs", MS_REMOUNT, "size=8m"), 0);
  const Ended again = RunToEnd(words);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_THAT(again.out, HasSubstr("resuming from the checkpoint of step 40"));
}

// A job that is done, with checkpoints of steps 20, 40 and 60.
class Checkpoints : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = NewFolder("checkpoints");
    words_ = LaunchWords(folder_, {.steps = 60});
    ASSERT_EQ(RunToEnd(words_).code, 0);
  }
  std::string Part(int step) const {
    return fmt::format("{}/job/checkpoints/step-{}/ps-0.safetensors", folder_, step);
  }
  std::string folder_;
  std::vector<std::string> words_;
};

TEST_F(Checkpoints, ATruncatedOneGivesWayToTheOneBeforeWithAWarning) {
  const uintmax_t whole = fs::file_size(Part(60));
  const std::string model = Contents(folder_ + "/job/export/model.onnx");
  fs::resize_file(Part(60), 1000);
  const Ended run = RunToEnd(words_);
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr(fmt::format("warning: checkpoint {}/job/checkpoints/step-60: "
                                             "ps-0.safetensors has 1000 bytes instead of {}; going "
                                             "back to the checkpoint of step 40\n",
                                             folder_, whole)));
  EXPECT_TRUE(Contents(folder_ + "/job/export/model.onnx") == model) << "the same bits again";
}

TEST_F(Checkpoints, ADamagedOneOfTheRightSizeToo) {
  for (const int step : {40, 60}) {
    std::fstream part(Part(step), std::ios::in | std::ios::out | std::ios::binary);
    part.seekp(step == 60 ? 20 : -20, step == 60 ? std::ios::beg : std::ios::end);
    part << "damaged";
  }
  const Ended run = RunToEnd(words_);
  EXPECT_EQ(run.code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("going back to the checkpoint of step 20\n"));
  EXPECT_THAT(run.out, HasSubstr("is damaged: its CRC-32C is"));
}

TEST_F(Checkpoints, WhenNoneCanBeUsedAllAreNamed) {
  for (const int step : {20, 40, 60}) fs::resize_file(Part(step), 1000);
  const Ended run = RunToEnd(words_);
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(FirstLine(run.err), HasSubstr("error: no checkpoint can be used: "));
  for (const char* step : {"step-20", "step-40", "step-60"}) {
    EXPECT_THAT(FirstLine(run.err), HasSubstr(step));
  }
  EXPECT_THAT(FirstLine(run.err),
              HasSubstr(fmt::format("Remove {}/job/checkpoints to start from the beginning, or "
                                    "choose another --job-dir",
                                    folder_)));
}

TEST_F(Checkpoints, AnotherModelOrBatchSizeIsRefusedByName) {
  const Ended model = RunToEnd(LaunchWords(folder_, {.steps = 60, .model = "single_fc"}));
  EXPECT_EQ(model.code, 2);
  EXPECT_THAT(FirstLine(model.err),
              HasSubstr("error: cannot resume from the checkpoint of step 60: the module's flag "
                        "--model_architecture was tiny_conv, is single_fc; "));
  ExpectForHumans(model);
  ExpectFails(LaunchWords(folder_, {.steps = 60, .batch = 11}),
              "cannot resume from the checkpoint of step 60: training.batchSize was 10, is 11. Set "
              "it back, or train anew with another --job-dir");
  // Nothing is lost: what was there goes on.
  EXPECT_EQ(RunToEnd(LaunchWords(folder_, {.steps = 60})).code, 0);
}

}  // namespace
}  // namespace muster::e2e
