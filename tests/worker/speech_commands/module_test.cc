// The module as the table of modules hands it out: labels, data sets, single files, the front end
// for the export.
#include "worker/modules/speech_commands/module.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "kernels/device.h"
#include "tests/harness/temporary_folder.h"
#include "worker/modules/speech_commands/wav.h"
#include "worker/onnx/builder.h"

namespace muster::worker {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

class SpeechModuleTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* word : {"yes", "no"}) {
      fs::create_directories(dir_ + "/" + word);
      for (uint32_t i = 0; i < 60; ++i) {
        const std::vector<int16_t> samples(8000, static_cast<int16_t>(i));
        ASSERT_EQ(WriteWav(fmt::format("{}/{}/{:08x}_nohash_0.wav", dir_, word, i * 2654435761U),
                           16000, samples),
                  absl::OkStatus());
      }
    }
  }

  std::unique_ptr<Module> Make(std::vector<std::string> args = {}) const {
    const auto type = FindModule("speech_commands.train");
    EXPECT_TRUE(type.ok()) << type.status();
    args.insert(args.end(), {"--data_dir=" + dir_ + "/", "--wanted_words", "yes,no"});
    const auto flags = ParseFlags(**type, args, nullptr);
    EXPECT_TRUE(flags.ok()) << flags.status();
    auto module = (*type)->make(*flags);
    EXPECT_TRUE(module.ok()) << module.status();
    return *std::move(module);
  }

  const harness::TemporaryFolder temporary_;
  const std::string dir_ = temporary_.path();
  std::unique_ptr<Log> log_ = Log::Discard();
};

TEST_F(SpeechModuleTest, LabelsAreSilenceUnknownAndTheWords) {
  EXPECT_THAT(Make()->labels(), ElementsAre("_silence_", "_unknown_", "yes", "no"));
}

TEST_F(SpeechModuleTest, SplitsAreDisjointAndShareOneScan) {
  const auto module = Make({"--silence_percentage=0"});
  int64_t samples = 0;
  for (const Split split : {Split::kTraining, Split::kValidation, Split::kTesting}) {
    const auto data = module->MakeDataset(split, 1, *log_);
    ASSERT_TRUE(data.ok()) << data.status();
    EXPECT_GT((*data)->size(), 0);
    EXPECT_EQ((*data)->input_size(), 98 * 40);
    samples += (*data)->size();
    fs::remove_all(dir_ + "/no");  // what was scanned first stays
  }
  EXPECT_EQ(samples, 120);
}

TEST_F(SpeechModuleTest, ASplitOfNoPercentIsEmpty) {
  const auto module = Make({"--validation_percentage=0"});
  const auto data = module->MakeDataset(Split::kValidation, 1, *log_);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ((*data)->size(), 0);
}

TEST_F(SpeechModuleTest, ASplitWithoutSpeakersIsAnError) {
  const auto module = Make({"--validation_percentage=100", "--testing_percentage=0"});
  EXPECT_EQ(module->MakeDataset(Split::kTraining, 1, *log_).status().message(),
            dir_ +
                ": no speaker falls into the training split (0 % of them, by the hash of their "
                "names); add clips of more speakers, or change --validation_percentage and "
                "--testing_percentage");
}

TEST_F(SpeechModuleTest, DataThatIsNotThereIsAnError) {
  const auto module = Make();
  fs::remove_all(dir_);
  EXPECT_THAT(module->MakeDataset(Split::kTraining, 1, *log_).status().message(),
              HasSubstr(dir_ + ": no such directory (--data_dir)"));
}

TEST_F(SpeechModuleTest, AFrontEndThatCannotBeIsAnError) {
  const auto type = FindModule("speech_commands");
  auto flags = ParseFlags(**type, std::vector<std::string>{"--sample_rate=6000"}, nullptr);
  ASSERT_TRUE(flags.ok());
  EXPECT_THAT((*type)->make(*flags).status().message(),
              HasSubstr("from 20 to 4000 Hz does not fit a sample rate of 6000 Hz"));
}

TEST_F(SpeechModuleTest, AnImageTooSmallForTheModelIsAnError) {
  const auto type = FindModule("speech_commands");
  auto flags = ParseFlags(**type,
                          std::vector<std::string>{"--model_architecture=low_latency_conv",
                                                   "--dct_coefficient_count=5"},
                          nullptr);
  ASSERT_TRUE(flags.ok());
  EXPECT_EQ((*type)->make(*flags).status().message(),
            "low_latency_conv needs images of at least 1 frame by 8 coefficients, not 98 by 5");
}

TEST_F(SpeechModuleTest, TheModelTakesTheFeatures) {
  const auto device = MakeCpuDevice(1);
  for (const char* name :
       {"single_fc", "conv", "low_latency_conv", "low_latency_svdf", "tiny_conv", "conv_norm"}) {
    const auto model = Make({std::string("--model_architecture=") + name})->MakeModel(*device);
    EXPECT_EQ(model->input_size(), 98 * 40) << name;
    EXPECT_EQ(model->num_classes(), 4) << name;
  }
}

TEST_F(SpeechModuleTest, ReadsASingleFileAsEvaluationWouldWithoutNoise) {
  const auto module = Make({"--background_frequency=0", "--validation_percentage=0",
                            "--testing_percentage=100", "--silence_percentage=0"});
  const auto data = module->MakeDataset(Split::kTesting, 1, *log_);
  ASSERT_TRUE(data.ok()) << data.status();
  std::vector<float> sample((*data)->input_size()), file(sample.size());
  int32_t label = -1;
  ASSERT_EQ((*data)->Get(0, 0, sample, &label), absl::OkStatus());
  ASSERT_EQ(label, 3);  // "no" stands before "yes" in the folder
  ASSERT_EQ(module->ReadInput(dir_ + "/no/00000000_nohash_0.wav", file), absl::OkStatus());
  EXPECT_EQ(sample, file);
  EXPECT_THAT(module->ReadInput(dir_ + "/none.wav", file).message(),
              HasSubstr("none.wav: cannot be opened"));
}

TEST_F(SpeechModuleTest, TheExportTakesPcm) {
  OnnxBuilder onnx("speech");
  const auto front_end = Make()->AddFrontEnd(onnx);
  ASSERT_TRUE(front_end.ok() && front_end->has_value());
  EXPECT_EQ((*front_end)->input, "pcm");
  EXPECT_THAT((*front_end)->input_shape, ElementsAre(OnnxBuilder::kBatch, 16000));
}

}  // namespace
}  // namespace muster::worker
