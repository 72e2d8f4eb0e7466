// The module's flags: TensorFlow's defaults, aliases of `training:` knobs, and what is said about
// values that make no sense.
#include "worker/modules/speech_commands/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::worker {
namespace {

using testing::ElementsAre;

FlagValues Defaults() {
  FlagValues values;
  for (const Flag& flag : SpeechFlags()) values[flag.name] = flag.default_value;
  return values;
}

std::string Problem(const std::string& name, const std::string& value) {
  FlagValues flags = Defaults();
  flags[name] = value;
  return std::string(SpeechSettingsFrom(flags).status().message());
}

TEST(SpeechFlagsTest, DefaultsAreThoseOfTensorFlow) {
  const auto s = SpeechSettingsFrom(Defaults());
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->corpus.data_dir, "data/speech_commands");
  EXPECT_THAT(s->corpus.wanted_words,
              ElementsAre("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"));
  EXPECT_EQ(s->corpus.silence_percentage, 10);
  EXPECT_EQ(s->corpus.unknown_percentage, 10);
  EXPECT_EQ(s->corpus.validation_percentage, 10);
  EXPECT_EQ(s->corpus.testing_percentage, 10);
  EXPECT_EQ(s->augment.time_shift, 1600);
  EXPECT_EQ(s->augment.background_volume, 0.1);
  EXPECT_EQ(s->augment.background_frequency, 0.8);
  EXPECT_EQ(s->front_end.clip_samples, 16000);
  EXPECT_EQ(s->front_end.window, 480);
  EXPECT_EQ(s->front_end.stride, 160);
  EXPECT_EQ(s->front_end.coefficients, 40);
  EXPECT_EQ(s->clip_budget, SpeechDataset::kClipBudget);
  EXPECT_EQ(s->architecture, "conv");
}

TEST(SpeechFlagsTest, TrainingKnobsAreAliases) {
  std::map<std::string, std::pair<std::string, std::string>> aliases;
  for (const Flag& flag : SpeechFlags()) {
    EXPECT_FALSE(flag.help.empty()) << flag.name;
    if (!flag.alias.empty()) aliases[flag.name] = {flag.alias, flag.default_value};
  }
  using Aliases = decltype(aliases);
  EXPECT_EQ(aliases,
            (Aliases{{"learning_rate", {"training.schedule.learningRate", "0.001,0.0001"}},
                     {"how_many_training_steps", {"training.schedule.steps", "15000,3000"}},
                     {"eval_step_interval", {"training.evaluation.interval", "400"}},
                     {"save_step_interval", {"training.checkpoints.interval", "100"}},
                     {"batch_size", {"training.batchSize", "100"}}}));
}

TEST(SpeechFlagsTest, ValuesThatMakeNoSense) {
  EXPECT_EQ(Problem("data_dir", ""), "--data_dir is empty; write the folder that holds the clips");
  EXPECT_EQ(Problem("wanted_words", ""),
            "--wanted_words is empty; write words, separated by commas");
  EXPECT_EQ(Problem("wanted_words", "yes,no,yes"),
            "--wanted_words: 'yes' is repeated; keep one of them");
  EXPECT_EQ(
      Problem("wanted_words", "yes,_silence_"),
      "--wanted_words: '_silence_' is no word; write the names of folders, separated by commas");
  EXPECT_EQ(Problem("silence_percentage", "-1"),
            "--silence_percentage=-1 is out of range; write a number from 0 to 1000");
  EXPECT_EQ(Problem("background_volume", "nan"),
            "--background_volume=nan is out of range; write a number from 0 to 1");
  EXPECT_EQ(Problem("background_frequency", "1.5"),
            "--background_frequency=1.5 is out of range; write a number from 0 to 1");
  EXPECT_EQ(Problem("validation_percentage", "95"),
            "--validation_percentage and --testing_percentage are 105 together; write at most 100");
  EXPECT_EQ(Problem("testing_percentage", "101"),
            "--testing_percentage=101 is out of range; write an integer from 0 to 100");
  EXPECT_EQ(Problem("sample_rate", "0"),
            "--sample_rate=0 is out of range; write an integer from 1000 to 192000");
  EXPECT_EQ(Problem("time_shift_ms", "1001"),
            "--time_shift_ms=1001 is out of range; write a number from 0 to 1000");
  EXPECT_EQ(Problem("window_size_ms", "0"), "--window_size_ms=0 is 0 samples; write a longer one");
  EXPECT_EQ(Problem("window_stride_ms", "0.01"),
            "--window_stride_ms=0.01 is less than a sample; write a longer one");
  EXPECT_EQ(Problem("dct_coefficient_count", "41"),
            "--dct_coefficient_count=41 is out of range; write an integer from 1 to 40");
  EXPECT_EQ(Problem("model_architecture", "tinyconv"),
            "--model_architecture: no model is called 'tinyconv'; write `tiny_conv`");
}

TEST(SpeechFlagsTest, AllProblemsAtOnce) {
  FlagValues flags = Defaults();
  flags["background_volume"] = "2";
  flags["dct_coefficient_count"] = "0";
  EXPECT_EQ(SpeechSettingsFrom(flags).status().message(),
            "--background_volume=2 is out of range; write a number from 0 to 1\n"
            "--dct_coefficient_count=0 is out of range; write an integer from 1 to 40");
}

}  // namespace
}  // namespace muster::worker
