// The corpus and the data set: what is in them, what is random and what is not, and every way in
// which the data can be wrong.
#include "worker/modules/speech_commands/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>

#include "tests/harness/temporary_folder.h"
#include "worker/modules/speech_commands/split.h"
#include "worker/modules/speech_commands/wav.h"

namespace muster::worker {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// Keeps what is logged.
class Lines : public Log {
 public:
  void Write(Level, std::string_view text) override { lines.emplace_back(text); }
  std::vector<std::string> lines;
};

class SpeechDataTest : public testing::Test {
 protected:
  void SetUp() override {
    settings_.data_dir = dir_;
    settings_.wanted_words = {"yes", "no"};
  }

  // `count` clips of one word, each by a voice of its own: a constant level that tells clips apart.
  void AddWord(const std::string& word, int count, int samples = 16000) {
    fs::create_directories(dir_ + "/" + word);
    for (int i = 0; i < count; ++i) {
      const std::vector<int16_t> pcm(samples, static_cast<int16_t>(100 * (i % 100) + 100));
      ASSERT_EQ(WriteWav(fmt::format("{}/{}/{:08x}_nohash_0.wav", dir_, word, i * 2654435761U),
                         16000, pcm),
                absl::OkStatus());
    }
  }
  void AddNoise(int samples = 100000) {
    fs::create_directories(dir_ + "/_background_noise_");
    std::vector<int16_t> pcm(samples);
    for (int i = 0; i < samples; ++i) pcm[i] = static_cast<int16_t>(i % 32000);
    ASSERT_EQ(WriteWav(dir_ + "/_background_noise_/ramp.wav", 16000, pcm), absl::OkStatus());
  }
  std::string ScanError() {
    const auto corpus = Corpus::Scan(settings_);
    EXPECT_FALSE(corpus.ok());
    return std::string(corpus.status().message());
  }
  std::unique_ptr<SpeechDataset> Make(Split split, uint64_t seed = 1) {
    auto corpus = Corpus::Scan(settings_);
    EXPECT_TRUE(corpus.ok()) << corpus.status();
    auto noise = Noise::Load(dir_ + "/" + kNoiseFolder, 16000, 16000);
    EXPECT_TRUE(noise.ok()) << noise.status();
    auto bad = std::make_shared<BadClips>(dir_, corpus->num_files());
    return std::make_unique<SpeechDataset>(
        dir_, split, seed, augment_, std::make_shared<const Corpus>(*std::move(corpus)),
        std::make_shared<const Noise>(*std::move(noise)),
        std::make_shared<const MfccFrontEnd>(*MfccFrontEnd::Make({})), std::move(bad), log_);
  }
  static std::vector<float> Pcm(const SpeechDataset& data, int64_t index, int64_t draw,
                                int32_t* label) {
    std::vector<float> pcm(16000);
    EXPECT_EQ(data.GetPcm(index, draw, pcm, label), absl::OkStatus());
    return pcm;
  }

  const harness::TemporaryFolder temporary_;
  const std::string dir_ = temporary_.path() + "/speech";
  CorpusSettings settings_;
  AugmentSettings augment_;
  Lines log_;
};

TEST_F(SpeechDataTest, SplitsHoldWantedWordsSilenceAndUnknown) {
  AddWord("yes", 100);
  AddWord("no", 100);
  AddWord("bird", 100);
  AddNoise();
  const auto corpus = Corpus::Scan(settings_);
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  for (const Split split : {Split::kTraining, Split::kValidation, Split::kTesting}) {
    std::map<int32_t, int64_t> count;
    for (const Corpus::Clip& clip : corpus->clips(split)) {
      ++count[clip.label];
      if (clip.label == kSilence) {
        EXPECT_EQ(clip.path, "");
      } else {
        EXPECT_EQ(WhichSplit(fs::path(clip.path).filename().string(), 10, 10), split);
        EXPECT_EQ(fs::path(clip.path).parent_path(),
                  clip.label == 1 ? "bird" : settings_.wanted_words[clip.label - 2]);
      }
    }
    const int64_t wanted = count[2] + count[3];
    EXPECT_GT(count[2], 0);
    EXPECT_EQ(count[2], count[3]);  // the same voices say both words
    EXPECT_EQ(count[kSilence], std::ceil(wanted * 0.1));
    EXPECT_EQ(count[kUnknownWord], std::ceil(wanted * 0.1));
  }
}

TEST_F(SpeechDataTest, TheOrderIsAMatterOfTheNamesAlone) {
  AddWord("yes", 50);
  AddWord("no", 50);
  AddWord("bird", 50);
  const auto a = Corpus::Scan(settings_);
  // Written again, the files stand in another order in their folders.
  for (const auto& entry : fs::recursive_directory_iterator(dir_ + "/bird")) {
    fs::rename(entry.path(), entry.path().string() + ".tmp");
  }
  for (const auto& entry : fs::recursive_directory_iterator(dir_ + "/bird")) {
    fs::rename(entry.path(), entry.path().string().substr(0, entry.path().string().size() - 4));
  }
  const auto b = Corpus::Scan(settings_);
  ASSERT_TRUE(a.ok() && b.ok());
  for (const Split split : {Split::kTraining, Split::kValidation, Split::kTesting}) {
    ASSERT_EQ(a->clips(split).size(), b->clips(split).size());
    for (size_t i = 0; i < a->clips(split).size(); ++i) {
      EXPECT_EQ(a->clips(split)[i].path, b->clips(split)[i].path);
    }
  }
}

TEST_F(SpeechDataTest, TheFingerprintIsThatOfTheSamplesWhereverTheyLie) {
  AddWord("yes", 20);
  AddWord("no", 20);
  AddNoise();
  const std::string before = Make(Split::kTraining)->Fingerprint();
  EXPECT_NE(Make(Split::kValidation)->Fingerprint(), before);
  fs::rename(dir_, dir_ + "2");
  fs::create_directories(dir_);
  fs::rename(dir_ + "2", dir_ + "/moved");
  const std::string moved = dir_ + "/moved";
  auto corpus = Corpus::Scan({.data_dir = moved, .wanted_words = settings_.wanted_words});
  ASSERT_TRUE(corpus.ok()) << corpus.status();
  const std::string path = corpus->clips(Split::kTraining)[0].path;
  const auto fingerprint = [&] {
    auto noise = Noise::Load(moved + "/" + kNoiseFolder, 16000, 16000);
    auto bad = std::make_shared<BadClips>(moved, 1);
    const auto scanned = Corpus::Scan({.data_dir = moved, .wanted_words = settings_.wanted_words});
    return SpeechDataset(moved, Split::kTraining, /*seed=*/2, augment_,
                         std::make_shared<const Corpus>(*scanned),
                         std::make_shared<const Noise>(*std::move(noise)),
                         std::make_shared<const MfccFrontEnd>(*MfccFrontEnd::Make({})), bad, log_)
        .Fingerprint();
  };
  EXPECT_EQ(fingerprint(), before);
  fs::remove(moved + "/" + path);
  EXPECT_NE(fingerprint(), before);
}

TEST_F(SpeechDataTest, TrainingSampleIsAFunctionOfSeedIndexAndDraw) {
  AddWord("yes", 30);
  AddWord("no", 30);
  AddNoise();
  const auto a = Make(Split::kTraining, 5), b = Make(Split::kTraining, 5);
  const auto other_seed = Make(Split::kTraining, 6);
  int32_t label_a = -1, label_b = -1;
  int differ_by_draw = 0, differ_by_seed = 0;
  std::vector<float> x(a->input_size()), y(a->input_size());
  for (int64_t i = 0; i < 20; ++i) {
    ASSERT_EQ(a->Get(i, 100 + i, x, &label_a), absl::OkStatus());
    (void)b->Get(19 - i, i, y, &label_b);  // whatever was asked before does not matter
    ASSERT_EQ(b->Get(i, 100 + i, y, &label_b), absl::OkStatus());
    EXPECT_EQ(x, y);
    EXPECT_EQ(label_a, label_b);
    ASSERT_EQ(b->Get(i, 200 + i, y, &label_b), absl::OkStatus());
    differ_by_draw += x != y;
    ASSERT_EQ(other_seed->Get(i, 100 + i, y, &label_b), absl::OkStatus());
    differ_by_seed += x != y;
  }
  EXPECT_EQ(differ_by_draw, 20);
  EXPECT_EQ(differ_by_seed, 20);
}

TEST_F(SpeechDataTest, TheShiftIsUniformAndPadsWithZeros) {
  AddWord("yes", 10);
  AddWord("no", 10);
  const auto data = Make(Split::kTraining);  // no noise folder: nothing is mixed in
  double sum = 0;
  int lowest = 16000, highest = -16000;
  for (int64_t draw = 0; draw < 400; ++draw) {
    int32_t label = -1;
    const std::vector<float> pcm = Pcm(*data, 0, draw, &label);
    const int before = static_cast<int>(
        std::find_if(pcm.begin(), pcm.end(), [](float v) { return v != 0; }) - pcm.begin());
    const int after = static_cast<int>(
        std::find_if(pcm.rbegin(), pcm.rend(), [](float v) { return v != 0; }) - pcm.rbegin());
    EXPECT_TRUE(before == 0 || after == 0);
    const int shift = before - after;
    sum += shift;
    lowest = std::min(lowest, shift);
    highest = std::max(highest, shift);
  }
  EXPECT_GE(lowest, -1600);
  EXPECT_LE(highest, 1600);
  EXPECT_LT(lowest, -1500);
  EXPECT_GT(highest, 1500);
  // The mean of 400 draws, uniform over ±1600, has a deviation of 1600 / √(3 · 400) = 46.
  EXPECT_LT(std::abs(sum / 400), 5 * 46);
}

TEST_F(SpeechDataTest, NoiseComesAtItsFrequencyAndVolume) {
  AddWord("yes", 10);
  AddWord("no", 10);
  AddNoise();
  augment_ = {.time_shift = 0, .background_volume = 0.25, .background_frequency = 0.5};
  const auto data = Make(Split::kTraining);
  int noisy = 0;
  float loudest = 0;
  for (int64_t draw = 0; draw < 400; ++draw) {
    int32_t label = -1;
    const std::vector<float> pcm = Pcm(*data, 0, draw, &label);
    const float range =
        *std::max_element(pcm.begin(), pcm.end()) - *std::min_element(pcm.begin(), pcm.end());
    noisy += range > 0;
    loudest = std::max(loudest, range);
  }
  EXPECT_NEAR(noisy, 200, 5 * 10);  // five deviations of a binomial of 400 at one half
  EXPECT_LE(loudest, 0.25F);
  EXPECT_GT(loudest, 0.2F);
}

TEST_F(SpeechDataTest, EvaluationMixesNoiseIntoEveryClipByIndex) {
  AddWord("yes", 100);
  AddWord("no", 100);
  AddNoise();
  const auto a = Make(Split::kTesting, 3), b = Make(Split::kTesting, 3);
  const auto corpus = Corpus::Scan(settings_);
  for (int64_t i = 0; i < a->size(); ++i) {
    int32_t label_a = -1, label_b = -1;
    const std::vector<float> pcm = Pcm(*a, i, 0, &label_a);
    EXPECT_EQ(pcm, Pcm(*b, i, 77, &label_b));  // the draw is not looked at
    EXPECT_EQ(label_a, label_b);
    EXPECT_EQ(label_a, corpus->clips(Split::kTesting)[i].label);
    EXPECT_NE(*std::max_element(pcm.begin(), pcm.end()), *std::min_element(pcm.begin(), pcm.end()))
        << i;
  }
}

TEST_F(SpeechDataTest, EvaluationHearsNoiseThatTrainingDoesNot) {
  AddNoise(160000);
  const auto noise = Noise::Load(dir_ + "/" + kNoiseFolder, 16000, 16000);
  ASSERT_TRUE(noise.ok()) << noise.status();
  const int16_t* begin = noise->Pick(Split::kTraining, 0, 0).data();
  EXPECT_EQ(noise->Pick(Split::kTraining, 0, ~0U).data() + 16000, begin + 128000);
  EXPECT_EQ(noise->Pick(Split::kTesting, 0, 0).data(), begin + 128000);
  EXPECT_EQ(noise->Pick(Split::kTesting, 0, ~0U).data() + 16000, begin + 160000);
}

TEST_F(SpeechDataTest, SilenceIsNoiseAlone) {
  AddWord("yes", 30);
  AddWord("no", 30);
  const auto quiet = Make(Split::kTraining);
  AddNoise();
  const auto noisy = Make(Split::kTraining);
  int32_t label = -1;
  const int64_t silence = quiet->size() - 1;  // no other words here: silence stands last
  EXPECT_THAT(Pcm(*quiet, silence, 1, &label), testing::Each(0.0F));
  EXPECT_EQ(label, kSilence);
  EXPECT_NE(Pcm(*noisy, silence, 1, &label), std::vector<float>(16000, 0.0F));
  EXPECT_EQ(label, kSilence);
}

TEST_F(SpeechDataTest, ShortClipsArePaddedAndLongOnesCut) {
  AddWord("yes", 30, 5000);
  AddWord("no", 30, 40000);
  settings_.silence_percentage = 0;
  augment_.time_shift = 0;
  const auto data = Make(Split::kTraining);
  for (int64_t i = 0; i < data->size(); ++i) {
    int32_t label = -1;
    const std::vector<float> pcm = Pcm(*data, i, 0, &label);
    const auto zeros = std::count(pcm.begin(), pcm.end(), 0.0F);
    EXPECT_EQ(zeros, label == 2 ? 11000 : 0);
  }
}

TEST_F(SpeechDataTest, DirectoryAbsent) {
  EXPECT_EQ(ScanError(), dir_ +
                             ": no such directory (--data_dir); make a set with "
                             "`make_speech_data --out " +
                             dir_ +
                             " --clips 8000`, or unpack the Speech Commands archive and point "
                             "--data_dir at it");
}

TEST_F(SpeechDataTest, DirectoryIsAFile) {
  std::ofstream(dir_) << "x";
  EXPECT_EQ(ScanError(), dir_ + ": cannot be listed (--data_dir): Not a directory");
}

TEST_F(SpeechDataTest, DirectoryEmpty) {
  fs::create_directories(dir_ + "/yes");
  EXPECT_THAT(ScanError(), HasSubstr(dir_ + ": holds no folders with .wav files (--data_dir); "
                                            "make a set with"));
}

TEST_F(SpeechDataTest, DirectoryWithoutPermission) {
  AddWord("yes", 1);
  fs::permissions(dir_, fs::perms::none);
  // Root may read everything: be nobody for the moment.
  const bool root = geteuid() == 0;
  if (root) {
    ASSERT_EQ(seteuid(65534), 0);
  }
  const std::string error = ScanError();
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
  fs::permissions(dir_, fs::perms::all);
  EXPECT_EQ(error, dir_ +
                       ": cannot be listed (--data_dir): Permission denied; check the owner and "
                       "the permissions of the folder");
}

TEST_F(SpeechDataTest, WordFolderMissing) {
  AddWord("yes", 2);
  AddWord("bird", 2);
  fs::create_directories(dir_ + "/go");
  settings_.wanted_words = {"yes", "no", "go"};
  EXPECT_EQ(ScanError(),
            dir_ + ": no clips of no, go (--wanted_words); there are clips of bird, yes");
}

TEST_F(SpeechDataTest, NoiseFolderEmptyOrTooShortOrBad) {
  const std::string folder = dir_ + "/" + kNoiseFolder;
  fs::create_directories(folder);
  EXPECT_EQ(Noise::Load(folder, 16000, 16000).status().message(),
            folder + ": holds no .wav file; put recordings of noise there, or remove the folder");
  AddNoise(16000);
  EXPECT_EQ(Noise::Load(folder, 16000, 16000).status().message(),
            folder + "/ramp.wav: 16000 samples of noise, a clip needs more than 16000");
  EXPECT_EQ(Noise::Load(folder, 8000, 8000).status().message(),
            folder + "/ramp.wav: 16000 Hz; convert it to 8000 Hz (--sample_rate)");
}

TEST_F(SpeechDataTest, AFewBadClipsAreSkippedCountedAndWarnedOf) {
  AddWord("yes", 200);
  AddWord("no", 200);
  settings_.validation_percentage = settings_.testing_percentage = 0;
  settings_.silence_percentage = 0;
  const auto corpus = Corpus::Scan(settings_);
  const auto& clips = corpus->clips(Split::kTraining);
  for (const int bad : {3, 4, 399}) {
    std::ofstream(dir_ + "/" + clips[bad].path) << "no sound";
  }
  augment_.time_shift = 0;
  const auto a = Make(Split::kTraining), b = Make(Split::kTraining);
  int32_t label = -1, next = -1;
  EXPECT_EQ(Pcm(*a, 3, 0, &label), Pcm(*b, 5, 0, &next));  // the next one that can be read
  EXPECT_EQ(label, next);
  EXPECT_EQ(Pcm(*a, 399, 0, &label), Pcm(*b, 0, 0, &next));
  EXPECT_EQ(label, next);
  for (int i = 0; i < 50; ++i) Pcm(*a, 0, 0, &label);
  EXPECT_EQ(
      log_.lines[0],
      fmt::format("skipped 1 bad clip of the 400 in {} (at most 4 are): {}/{}: not a WAV file "
                  "(it does not begin with RIFF … WAVE)",
                  dir_, dir_, clips[3].path));
  EXPECT_EQ(log_.lines.back(),
            fmt::format("all clips of the training split of {} were looked at: 3 of the 400 clips "
                        "are bad and skipped",
                        dir_));
}

TEST_F(SpeechDataTest, MoreThanOnePercentOfBadClipsIsAnErrorThatNamesThem) {
  AddWord("yes", 100);
  AddWord("no", 100);
  settings_.validation_percentage = settings_.testing_percentage = 0;
  settings_.silence_percentage = 0;
  const auto corpus = Corpus::Scan(settings_);
  const auto& clips = corpus->clips(Split::kTraining);
  for (const int bad : {150, 151, 152}) {
    std::ofstream(dir_ + "/" + clips[bad].path);
  }
  // Nobody asks for the bad clips themselves: the headers ahead are looked at all the same, so that
  // the first eighth of an epoch decides.
  const auto data = Make(Split::kTraining);
  absl::Status status;
  int64_t asked = 0;
  std::vector<float> input(data->input_size());
  for (int32_t label; status.ok() && asked < 25; ++asked) {
    status = data->Get(asked, asked, input, &label);
  }
  EXPECT_EQ(status.message(),
            fmt::format("more than 1 % of the 200 clips in {0} cannot be used: "
                        "convert or remove them. The first 3 are: {0}/{1}: empty file; {0}/{2}: "
                        "empty file; {0}/{3}: empty file",
                        dir_, clips[150].path, clips[151].path, clips[152].path));
}

// A split of some dozen clips would otherwise stop the job at its first bad one.
TEST_F(SpeechDataTest, OnePercentIsOfTheCorpusAndNotOfTheSplit) {
  BadClips bad("DIR", 200);
  EXPECT_TRUE(bad.Note("yes/a.wav", absl::DataLossError("A"), log_).ok());
  EXPECT_TRUE(bad.Note("yes/a.wav", absl::DataLossError("A"), log_).ok());
  EXPECT_TRUE(bad.Note("yes/b.wav", absl::DataLossError("B"), log_).ok());
  EXPECT_EQ(bad.count(), 2);
  EXPECT_EQ(
      bad.Note("no/c.wav", absl::DataLossError("C"), log_).message(),
      "more than 1 % of the 200 clips in DIR cannot be used: convert or remove them. The first "
      "3 are: A; B; C");
}

TEST_F(SpeechDataTest, ClipsThatVanishAfterTheScanAreBadClips) {
  AddWord("yes", 20);
  AddWord("no", 20);
  const auto data = Make(Split::kTraining);
  fs::remove_all(dir_ + "/yes");
  fs::remove_all(dir_ + "/no");
  std::vector<float> input(data->input_size());
  int32_t label = -1;
  EXPECT_THAT(data->Get(0, 0, input, &label).message(), HasSubstr("cannot be opened"));
}

}  // namespace
}  // namespace muster::worker
