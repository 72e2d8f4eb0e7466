// `launch predict` and `launch evaluate` on a job directory made by hand: what they print, and the
// exit codes.
#include "cluster/predict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "cluster/evaluate_command.h"
#include "cluster/predict_command.h"
#include "configs/job_yaml.h"
#include "master/job_directory.h"
#include "ps/checkpoint.h"
#include "telemetry/file.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

using ::testing::HasSubstr;

// Four classes; the logits are the input times one weight.
class ScaleModel : public worker::Model {
 public:
  ScaleModel() {
    params_.emplace_back();
    params_.back().name = "scale";
    params_.back().shape = {1};
  }
  const std::vector<ps::ParamSpec>& params() const override { return params_; }
  absl::Status Prepare(const ps::ParamTable&, int64_t) override { return absl::OkStatus(); }
  void Forward(std::span<const float>, const worker::Batch&, const worker::ItemKey&) override {}
  float Loss() override { return 0; }
  void Backward(std::span<const float>, std::span<float>, const worker::OnGrad&) override {}
  void Predict(std::span<const float> weights, const worker::Batch& batch,
               std::span<float> logits) override {
    for (size_t c = 0; c < logits.size(); ++c) logits[c] = weights[0] * batch.inputs[c];
  }
  int64_t num_classes() const override { return 4; }
  int64_t input_size() const override { return 4; }
  double flops_per_sample() const override { return 0; }

 private:
  std::vector<ps::ParamSpec> params_;
};

// Eight samples: one-hot inputs of all classes in turn, all of them labelled "up" or "down".
class OneHotDataset : public worker::Dataset {
 public:
  int64_t size() const override { return 8; }
  int64_t input_size() const override { return 4; }
  absl::Status Get(int64_t index, int64_t, std::span<float> input, int32_t* label) const override {
    for (int64_t i = 0; i < 4; ++i) input[i] = i == index % 4 ? 1.0F : 0.0F;
    *label = static_cast<int32_t>(index % 2);
    return absl::OkStatus();
  }
};

// Reads files of four numbers. Has testing data where --data is not empty.
class NumbersModule : public worker::Module {
 public:
  explicit NumbersModule(std::string data = "") : data_(std::move(data)) {}
  std::unique_ptr<worker::Model> MakeModel(Device&) const override {
    return std::make_unique<ScaleModel>();
  }
  absl::StatusOr<std::shared_ptr<const worker::Dataset>> MakeDataset(worker::Split split, uint64_t,
                                                                     Log& log) const override {
    if (data_.empty()) return absl::NotFoundError("there is no data (--data)");
    if (split != worker::Split::kTesting)
      return absl::FailedPreconditionError("nothing to validate");
    log.Warning("{} is a toy", data_);
    return std::make_shared<OneHotDataset>();
  }
  std::vector<std::string> labels() const override { return {"up", "down", "left", "backward"}; }
  absl::Status ReadInput(const std::string& path, std::span<float> input) const override {
    std::ifstream file(path);
    for (float& x : input) file >> x;
    if (!file) return absl::InvalidArgumentError(path + ": is not four numbers");
    return absl::OkStatus();
  }

 private:
  const std::string data_;
};

absl::StatusOr<std::unique_ptr<worker::Module>> MakeNumbers(const Job& job) {
  if (job.training_input().python_module() != "numbers.train") {
    return absl::NotFoundError("no module is called " + job.training_input().python_module());
  }
  return std::make_unique<NumbersModule>();
}

class PredictTest : public ::testing::Test {
 protected:
  void WriteJob(const std::string& module = "numbers.train",
                const std::vector<std::string>& args = {}) {
    Job job;
    for (const std::string& arg : args) job.mutable_training_input()->add_args(arg);
    job.mutable_training_input()->set_python_module(module);
    ASSERT_TRUE(WriteFileAtomically(dir_.job_yaml(), WriteJobYaml(job)).ok());
  }
  void WriteCheckpoint(int64_t step, float scale) {
    const ps::ParamTable table = *ps::ParamTable::Make(ScaleModel().params());
    std::filesystem::create_directories(dir_.checkpoint(step));
    const std::string path = ps::CheckpointPartPath(dir_.checkpoint(step), 0);
    const std::vector<ps::SavedSlice> slices = {{0, step, {scale}, {}}};
    ASSERT_TRUE(
        ps::WriteCheckpointPart(path, table, ps::MakePartition(table, 1), {}, step, slices).ok());
    master::Manifest manifest;
    manifest.step = step;
    manifest.parts = {{std::filesystem::path(path).filename(),
                       static_cast<int64_t>(std::filesystem::file_size(path))}};
    ASSERT_TRUE(master::CommitCheckpoint(dir_, manifest).ok());
  }
  std::string WriteInput(const std::string& name, const std::string& text) {
    const std::string path = dir_.root() + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

  // Runs it; what it printed is in out_ and err_.
  int Predict(const std::vector<std::string>& files) {
    std::FILE* out = std::tmpfile();
    std::FILE* err = std::tmpfile();
    const int code = RunPredict(dir_.root(), files, MakeNumbers, out, err);
    out_ = TakeText(out);
    err_ = TakeText(err);
    return code;
  }

  static std::string TakeText(std::FILE* file) {
    std::string text(std::ftell(file), '\0');
    std::rewind(file);
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file), text.size());
    std::fclose(file);
    return text;
  }

  const harness::TemporaryFolder folder_;
  const master::JobDirectory dir_{folder_.path()};
  std::string out_, err_;
};

TEST_F(PredictTest, PrintsTheThreeLikeliestLabelsOfEachFile) {
  WriteJob();
  WriteCheckpoint(100, 2);
  const std::string a = WriteInput("a", "0 1 0.5 -1");
  const std::string longer = WriteInput("longer", "3 0 0 0");
  EXPECT_EQ(Predict({a, longer}), 0);
  EXPECT_EQ(out_, a + "        down      65.7 %   left      24.2 %   up         8.9 %\n" + longer +
                      "   up        99.3 %   down       0.2 %   left       0.2 %\n");
  EXPECT_EQ(err_, "");
}

TEST_F(PredictTest, UsesTheNewestCheckpoint) {
  WriteJob();
  WriteCheckpoint(100, 2);
  WriteCheckpoint(200, -2);
  EXPECT_EQ(Predict({WriteInput("a", "9 0 0 0")}), 0);
  EXPECT_THAT(out_, HasSubstr("a   down      33.3 %"));
}

TEST_F(PredictTest, ADamagedCheckpointIsSaidAndTheOneBeforeIsUsed) {
  WriteJob();
  WriteCheckpoint(100, 2);
  WriteCheckpoint(200, -2);
  std::filesystem::resize_file(ps::CheckpointPartPath(dir_.checkpoint(200), 0), 10);
  EXPECT_EQ(Predict({WriteInput("a", "9 0 0 0")}), 0);
  EXPECT_THAT(out_, HasSubstr("a   up       100.0 %"));
  EXPECT_THAT(err_, HasSubstr("step-200"));
}

TEST_F(PredictTest, ABadFileIsNamedAndTheOthersArePredicted) {
  WriteJob();
  WriteCheckpoint(100, 2);
  const std::string bad = WriteInput("bad", "zero one");
  const std::string good = WriteInput("good", "3 0 0 0");
  EXPECT_EQ(Predict({bad, good, dir_.root() + "/absent"}), 1);
  EXPECT_THAT(out_, HasSubstr(good + "  "));
  EXPECT_EQ(err_, bad + ": is not four numbers\n" + dir_.root() + "/absent: is not four numbers\n");
}

TEST_F(PredictTest, ADirectoryThatIsNoJobsIsWrongInput) {
  EXPECT_EQ(Predict({"a"}), 2);
  EXPECT_THAT(err_, HasSubstr(dir_.root() + " is not a job's directory"));
  EXPECT_EQ(out_, "");
}

TEST_F(PredictTest, AJobWithoutACheckpointIsWrongInput) {
  WriteJob();
  EXPECT_EQ(Predict({"a"}), 2);
  EXPECT_THAT(err_, HasSubstr("checkpoint"));
}

TEST_F(PredictTest, AnUnknownModuleIsWrongInput) {
  WriteJob("ghosts");
  WriteCheckpoint(100, 2);
  EXPECT_EQ(Predict({"a"}), 2);
  EXPECT_THAT(err_, HasSubstr("ghosts"));
}

TEST_F(PredictTest, OnlyDamagedCheckpointsIsAFailure) {
  WriteJob();
  WriteCheckpoint(100, 2);
  std::filesystem::resize_file(ps::CheckpointPartPath(dir_.checkpoint(100), 0), 10);
  EXPECT_EQ(Predict({"a"}), 1);
  EXPECT_THAT(err_, HasSubstr("step-100"));
}

const worker::ModuleType kNumbersType = {
    "numbers",
    {{.name = "data", .help = "what to evaluate"}},
    [](const worker::FlagValues& flags) -> absl::StatusOr<std::unique_ptr<worker::Module>> {
      return std::make_unique<NumbersModule>(flags.at("data"));
    }};

class PredictCommandTest : public PredictTest {
 protected:
  // Runs `launch predict`, or another command, with the words that follow.
  int Run(const std::vector<std::string>& words,
          int (*command)(const CommandContext&) = RunPredictCommand) {
    CommandContext context;
    context.words = words;
    context.out = std::tmpfile();
    context.err = std::tmpfile();
    context.resolve.find_module = [](const std::string&) { return &kNumbersType; };
    const int code = command(context);
    out_ = TakeText(context.out);
    err_ = TakeText(context.err);
    return code;
  }
};

TEST_F(PredictCommandTest, TakesTheDirectoryAndFilesInAnyOrder) {
  WriteJob();
  WriteCheckpoint(100, 2);
  const std::string a = WriteInput("a", "9 0 0 0");
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--job-dir=" + dir_.root(), a},
        std::vector<std::string>{a, "--job-dir", dir_.root()},
        std::vector<std::string>{"--job-dir", dir_.root(), "--", a}}) {
    EXPECT_EQ(Run(words), kSucceeded) << err_;
    EXPECT_THAT(out_, HasSubstr("a   up       100.0 %"));
  }
}

TEST_F(PredictCommandTest, SaysWhichWordIsMissingOrWrong) {
  EXPECT_EQ(Run({"a.wav"}), kWrongInput);
  EXPECT_THAT(err_, HasSubstr("--job-dir is missing"));
  EXPECT_EQ(Run({"--job-dir"}), kWrongInput);
  EXPECT_EQ(Run({"--job-dir=" + dir_.root()}), kWrongInput);
  EXPECT_THAT(err_, HasSubstr("no file is named"));
  EXPECT_EQ(Run({"--jobdir=x", "a.wav"}), kWrongInput);
  EXPECT_THAT(err_, HasSubstr("--jobdir=x"));
}

TEST_F(PredictCommandTest, HelpIsNoError) {
  EXPECT_EQ(Run({"--help"}), kSucceeded);
  EXPECT_THAT(out_, HasSubstr("usage: launch predict"));
  EXPECT_EQ(Run({"--help"}, RunEvaluateCommand), kSucceeded);
  EXPECT_THAT(out_, HasSubstr("usage: launch evaluate"));
}

// The model answers every input with its own class: of "up" inputs half are left, of "down" half
// backward.
TEST_F(PredictCommandTest, EvaluateCountsTheAnswersToASplit) {
  WriteJob();
  WriteCheckpoint(100, 2);
  EXPECT_EQ(Run({"--job-dir=" + dir_.root(), "--", "--data=eight"}, RunEvaluateCommand),
            kSucceeded);
  EXPECT_THAT(out_, HasSubstr("checkpoint           step 100 of " + dir_.root() + "\n"));
  EXPECT_THAT(out_, HasSubstr("samples              8 of the testing split\n"));
  EXPECT_THAT(out_, HasSubstr("accuracy             50.0 %\n"));
  EXPECT_EQ(err_, "warning: eight is a toy\n");
}

TEST_F(PredictCommandTest, EvaluateTakesTheJobsFlagsUnlessOthersAreGiven) {
  WriteJob("numbers.train", {"--data=of the job"});
  WriteCheckpoint(100, 2);
  EXPECT_EQ(Run({"--job-dir", dir_.root()}, RunEvaluateCommand), kSucceeded);
  EXPECT_EQ(err_, "warning: of the job is a toy\n");
  EXPECT_EQ(Run({"--job-dir", dir_.root(), "--", "--data", "other"}, RunEvaluateCommand),
            kSucceeded);
  EXPECT_EQ(err_, "warning: other is a toy\n");
}

TEST_F(PredictCommandTest, EvaluateSaysWhatIsWrong) {
  const auto evaluate = [this](std::vector<std::string> words) {
    words.push_back("--job-dir=" + dir_.root());
    std::ranges::rotate(words, words.end() - 1);
    return Run(words, RunEvaluateCommand);
  };
  EXPECT_EQ(evaluate({}), kWrongInput);
  EXPECT_THAT(err_, HasSubstr("is not a job's directory"));
  WriteJob();
  WriteCheckpoint(100, 2);
  EXPECT_EQ(evaluate({}), kWrongInput);
  EXPECT_THAT(err_, HasSubstr("there is no data (--data)"));
  EXPECT_EQ(evaluate({"--split=validation", "--", "--data=x"}), kWrongInput);
  EXPECT_THAT(err_, HasSubstr("nothing to validate"));
  EXPECT_EQ(evaluate({"--split=training"}), kWrongInput);
  EXPECT_THAT(err_, HasSubstr("--split=training: write testing or validation"));
  EXPECT_EQ(evaluate({"--", "--dota=x"}), kWrongInput);
  EXPECT_THAT(err_, HasSubstr("write `--data`"));
  EXPECT_EQ(evaluate({"clip.wav"}), kWrongInput);
  EXPECT_THAT(err_, HasSubstr("launch evaluate takes no 'clip.wav'"));
  EXPECT_EQ(Run({}, RunEvaluateCommand), kWrongInput);
  EXPECT_THAT(err_, HasSubstr("--job-dir is missing"));
}

}  // namespace
}  // namespace muster::cluster
