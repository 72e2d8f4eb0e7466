// What a made set consists of: speakers, splits, words, and that a plan is a prefix of a longer
// one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "worker/modules/speech_commands/maker/plan.h"
#include "worker/modules/speech_commands/maker/sound.h"
#include "worker/modules/speech_commands/split.h"

namespace muster::worker {
namespace {

const PlanSettings kSettings = {
    .seed = 3, .words = {"yes", "no", "up", "go"}, .unknown = {"bird", "cat", "wow"}};

TEST(MakerPlanTest, AShorterPlanIsAPrefixOfALongerOne) {
  const auto voices = EspeakVoices();
  const auto some = PlanClips(kSettings, voices, 700), twice = PlanClips(kSettings, voices, 1400);
  EXPECT_TRUE(std::equal(some.begin(), some.end(), twice.begin()));
}

TEST(MakerPlanTest, AnotherSeedIsAnotherPlan) {
  PlanSettings other = kSettings;
  other.seed = 4;
  const auto a = PlanClips(kSettings, EspeakVoices(), 50), b = PlanClips(other, EspeakVoices(), 50);
  int same = 0;
  for (size_t i = 0; i < a.size(); ++i) same += a[i].pitch == b[i].pitch;
  EXPECT_EQ(same, 0);
}

TEST(MakerPlanTest, SpeakersAreDistinctAndAFunctionOfAccentAndVariantAlone) {
  std::map<std::string, std::pair<std::string, std::string>> by_speaker;
  for (const Voice& voice : EspeakVoices()) {
    EXPECT_EQ(voice.speaker.size(), 8);
    EXPECT_EQ(voice.speaker.find_first_not_of("0123456789abcdef"), std::string::npos);
    EXPECT_TRUE(by_speaker.emplace(voice.speaker, std::pair(voice.accent, voice.variant)).second);
  }
  EXPECT_EQ(by_speaker.size(), 560);
  // Whatever a clip's word, pitch, speed, and even seed: its speaker names its voice.
  for (const uint64_t seed : {1, 2}) {
    PlanSettings settings = kSettings;
    settings.seed = seed;
    for (const ClipPlan& plan : PlanClips(settings, EspeakVoices(), 3000)) {
      const auto& [accent, variant] = by_speaker.at(plan.voice.speaker);
      EXPECT_EQ(plan.voice.accent, accent);
      EXPECT_EQ(plan.voice.variant, variant);
      EXPECT_EQ(Speaker(plan.file.substr(plan.file.find('/') + 1)), plan.voice.speaker);
    }
  }
}

TEST(MakerPlanTest, NoVoiceIsInTwoSplits) {
  std::map<Split, std::set<std::pair<std::string, std::string>>> voices;
  std::map<Split, std::map<std::string, int>> clips;
  for (const ClipPlan& plan : PlanClips(kSettings, EspeakVoices(), 6000)) {
    const Split split = WhichSplit(plan.file.substr(plan.file.find('/') + 1), 10, 10);
    voices[split].insert({plan.voice.accent, plan.voice.variant});
    ++clips[split][plan.word];
  }
  size_t all = 0;
  std::set<std::pair<std::string, std::string>> distinct;
  for (const auto& [split, set] : voices) {
    all += set.size();
    distinct.insert(set.begin(), set.end());
    EXPECT_GE(set.size(), 45);
  }
  EXPECT_EQ(all, distinct.size());
  for (const auto& [split, words] : clips) {
    EXPECT_EQ(words.size(), 7);
    for (const auto& [word, count] : words) EXPECT_GE(count, 20) << word;
  }
}

TEST(MakerPlanTest, FilesAreDistinctAndWordsEven) {
  std::set<std::string> files;
  std::map<std::string, int> words;
  for (const ClipPlan& plan : PlanClips(kSettings, EspeakVoices(), 2400)) {
    EXPECT_TRUE(files.insert(plan.file).second) << plan.file;
    EXPECT_EQ(plan.file.substr(0, plan.file.find('/')), plan.word);
    ++words[plan.word];
  }
  for (const char* word : {"yes", "no", "up", "go"}) EXPECT_EQ(words[word], 500);
  for (const char* word : {"bird", "cat", "wow"}) EXPECT_NEAR(words[word], 400 / 3, 1);
}

TEST(MakerPlanTest, EveryClipOfTheOtherSynthesiserIsForTesting) {
  std::set<std::string> speakers;
  for (const Voice& voice : FliteVoices()) {
    EXPECT_EQ(WhichSplit(voice.speaker + "_nohash_0.wav", 10, 10), Split::kTesting);
    speakers.insert(voice.speaker);
  }
  EXPECT_EQ(speakers.size(), 4);
  for (const Voice& voice : EspeakVoices()) EXPECT_FALSE(speakers.contains(voice.speaker));
}

TEST(MakerSoundTest, ResamplingKeepsATone) {
  constexpr double kHz = 1234;
  std::vector<float> input(22050);
  for (size_t n = 0; n < input.size(); ++n) {
    input[n] = static_cast<float>(std::sin(2 * M_PI * kHz * double(n) / 22050));
  }
  const std::vector<float> output = Resample(input, 22050);
  ASSERT_EQ(output.size(), 16000);
  for (size_t n = 100; n < 15900; ++n) {
    // The Hann-windowed sinc of 32 taps ripples by less than half a percent inside its band.
    ASSERT_NEAR(output[n], std::sin(2 * M_PI * kHz * double(n) / 16000), 5e-3) << n;
  }
}

TEST(MakerSoundTest, ResamplingRemovesWhatDoesNotFit) {
  std::vector<float> input(22050);
  for (size_t n = 0; n < input.size(); ++n) {
    input[n] = static_cast<float>(std::sin(2 * M_PI * 10000 * double(n) / 22050));
  }
  const std::vector<float> output = Resample(input, 22050);
  for (size_t n = 100; n < 15900; ++n) ASSERT_LT(std::abs(output[n]), 5e-3) << n;
}

TEST(MakerSoundTest, AClipHoldsItsWordAtItsPlaceAndPeak) {
  ClipPlan plan;
  plan.place = 0.5;
  plan.peak = 0.25;
  plan.floor = 0;
  std::vector<float> word(6000, 0.0F);  // silence around the word does not count
  std::fill(word.begin() + 1000, word.begin() + 5000, 0.7F);
  const std::vector<int16_t> clip = MakeClip(plan, 1, word);
  ASSERT_EQ(clip.size(), 16000);
  for (int n = 0; n < 16000; ++n) {
    EXPECT_EQ(clip[n], n >= 6000 && n < 10000 ? 8192 : 0) << n;
  }
}

TEST(MakerSoundTest, NoisesHaveOneLevelAndAreAFunctionOfTheSeed) {
  for (const std::string& name : NoiseNames()) {
    SCOPED_TRACE(name);
    const auto a = FinishNoise(MakeNoise(name, 1, 32000)),
               b = FinishNoise(MakeNoise(name, 1, 32000));
    EXPECT_EQ(a, b);
    EXPECT_NE(a, FinishNoise(MakeNoise(name, 2, 32000)));
    double energy = 0;
    for (const int16_t v : a) energy += double(v) * v;
    // 0.1 of full scale; what full scale cuts off makes it a little less.
    const double level = std::sqrt(energy / 32000) / 32768;
    EXPECT_LE(level, 0.1001);
    EXPECT_GE(level, 0.09);
  }
}

}  // namespace
}  // namespace muster::worker
