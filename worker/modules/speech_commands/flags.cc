#include "worker/modules/speech_commands/flags.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "configs/nearest.h"
#include "configs/scalar.h"
#include "telemetry/check.h"
#include "worker/data_folder.h"
#include "worker/models/models.h"

namespace muster::worker {
namespace {

using Type = Flag::Type;

// Takes the values out of the flags and gathers what is wrong with them.
class Reader {
 public:
  explicit Reader(const FlagValues& flags) : flags_(flags) {}

  const std::string& Text(const std::string& name) const {
    const auto found = flags_.find(name);
    CHECK(found != flags_.end());
    return found->second;
  }

  // A number in [low, high]; `low` when it is none.
  double Number(const std::string& name, double low, double high) {
    Wrong wrong;
    const std::optional<double> value = ParseDouble(Text(name), &wrong);
    if (value && *value >= low && *value <= high) return *value;
    Add(fmt::format("--{}={} is out of range; write a number from {} to {}", name, Text(name), low,
                    high));
    return low;
  }

  int Integer(const std::string& name, int low, int high) {
    Wrong wrong;
    const std::optional<int64_t> value = ParseInt(Text(name), low, high, &wrong);
    if (value) return static_cast<int>(*value);
    Add(fmt::format("--{}={} is out of range; write an integer from {} to {}", name, Text(name),
                    low, high));
    return low;
  }

  std::vector<std::string> Words(const std::string& name) {
    std::vector<std::string> words;
    std::set<std::string> seen;
    std::stringstream stream(Text(name));
    for (std::string word; std::getline(stream, word, ',');) {
      word.erase(0, word.find_first_not_of(' '));
      word.erase(word.find_last_not_of(' ') + 1);
      if (word.empty() || word.front() == '_' || word.find('/') != std::string::npos) {
        Add(fmt::format("--{}: {} is no word; write the names of folders, separated by commas",
                        name, Quoted(word)));
      } else if (!seen.insert(word).second) {
        Add(fmt::format("--{}: '{}' is repeated; keep one of them", name, word));
      }
      words.push_back(std::move(word));
    }
    if (words.empty()) {
      Add(fmt::format("--{} is empty; write words, separated by commas", name));
    }
    return words;
  }

  void Add(std::string problem) { problems_.push_back(std::move(problem)); }
  absl::Status status() const {
    return problems_.empty()
               ? absl::OkStatus()
               : absl::InvalidArgumentError(fmt::format("{}", fmt::join(problems_, "\n")));
  }

 private:
  const FlagValues& flags_;
  std::vector<std::string> problems_;
};

}  // namespace

std::vector<Flag> SpeechFlags() {
  return {
      {"data_dir", Type::kFolder, "data/speech_commands",
       "where the clips are: WORD/SPEAKER_nohash_N.wav", ""},
      {"wanted_words", Type::kString, "yes,no,up,down,left,right,on,off,stop,go",
       "words to learn; others become _unknown_", ""},
      {"silence_percentage", Type::kDouble, "10",
       "how much silence to add, in percent of the wanted clips", ""},
      {"unknown_percentage", Type::kDouble, "10",
       "how many clips of other words to add, in percent of the wanted clips", ""},
      {"time_shift_ms", Type::kDouble, "100",
       "training clips are moved in time by up to this much, either way", ""},
      {"background_volume", Type::kDouble, "0.1",
       "how loud the background noise may be, from 0 to 1", ""},
      {"background_frequency", Type::kDouble, "0.8",
       "how many of the training clips have noise mixed in, from 0 to 1; 0 keeps it out of "
       "evaluation too",
       ""},
      {"validation_percentage", Type::kInt, "10", "how many of the speakers are for validation",
       ""},
      {"testing_percentage", Type::kInt, "10", "how many of the speakers are for the test", ""},
      {"sample_rate", Type::kInt, "16000", "of the clips, in Hz", ""},
      {"clip_duration_ms", Type::kInt, "1000", "shorter clips are padded, longer ones cut", ""},
      {"window_size_ms", Type::kDouble, "30", "length of one frame of the spectrogram", ""},
      {"window_stride_ms", Type::kDouble, "10", "from one frame to the next", ""},
      {"dct_coefficient_count", Type::kInt, "40", "MFCC coefficients per frame", ""},
      {"gpu_clips_mib", Type::kInt, "4096",
       "how much of a GPU's memory the clips may take; more of them go there batch by batch", ""},
      {"learning_rate", Type::kString, "0.001,0.0001", "one for each stage of the training",
       "training.schedule.learningRate"},
      {"how_many_training_steps", Type::kString, "15000,3000", "steps of each stage",
       "training.schedule.steps"},
      {"eval_step_interval", Type::kInt, "400", "steps between two evaluations",
       "training.evaluation.interval"},
      {"save_step_interval", Type::kInt, "100", "steps between two checkpoints",
       "training.checkpoints.interval"},
      {"batch_size", Type::kInt, "100", "samples per replica and step", "training.batchSize"},
      {"model_architecture", Type::kString, "conv",
       fmt::format("one of {}", fmt::join(ImageModelNames(), ", ")), ""},
  };
}

absl::StatusOr<SpeechSettings> SpeechSettingsFrom(const FlagValues& flags) {
  Reader reader(flags);
  SpeechSettings s;
  s.corpus.data_dir = DataFolder(reader.Text("data_dir"));
  while (s.corpus.data_dir.size() > 1 && s.corpus.data_dir.back() == '/') {
    s.corpus.data_dir.pop_back();
  }
  if (s.corpus.data_dir.empty()) {
    reader.Add("--data_dir is empty; write the folder that holds the clips");
  }
  s.corpus.wanted_words = reader.Words("wanted_words");
  s.corpus.silence_percentage = reader.Number("silence_percentage", 0, 1000);
  s.corpus.unknown_percentage = reader.Number("unknown_percentage", 0, 1000);
  s.corpus.validation_percentage = reader.Integer("validation_percentage", 0, 100);
  s.corpus.testing_percentage = reader.Integer("testing_percentage", 0, 100);
  if (const double held = s.corpus.validation_percentage + s.corpus.testing_percentage;
      held > 100) {
    reader.Add(fmt::format(
        "--validation_percentage and --testing_percentage are {} together; write at most 100",
        held));
  }
  s.augment.background_volume = reader.Number("background_volume", 0, 1);
  s.augment.background_frequency = reader.Number("background_frequency", 0, 1);

  FrontEndSettings& f = s.front_end;
  f.sample_rate = reader.Integer("sample_rate", 1000, 192000);
  const int clip_ms = reader.Integer("clip_duration_ms", 1, 60000);
  const auto samples = [&](double ms) { return static_cast<int>(f.sample_rate * ms / 1000); };
  f.clip_samples = samples(clip_ms);
  s.augment.time_shift = samples(reader.Number("time_shift_ms", 0, clip_ms));
  f.window = samples(reader.Number("window_size_ms", 0, clip_ms));
  f.stride = samples(reader.Number("window_stride_ms", 0, clip_ms));
  if (f.window < 2) {
    reader.Add(fmt::format("--window_size_ms={} is {} samples; write a longer one",
                           reader.Text("window_size_ms"), f.window));
  }
  if (f.stride < 1) {
    reader.Add(fmt::format("--window_stride_ms={} is less than a sample; write a longer one",
                           reader.Text("window_stride_ms")));
  }
  f.coefficients = reader.Integer("dct_coefficient_count", 1, f.mel_channels);
  s.clip_budget = int64_t{reader.Integer("gpu_clips_mib", 0, 1 << 20)} << 20;
  s.architecture = reader.Text("model_architecture");
  const std::vector<std::string> architectures = ImageModelNames();
  if (!std::ranges::count(architectures, s.architecture)) {
    reader.Add(fmt::format("--model_architecture: no model is called {}; {}",
                           Quoted(s.architecture), WriteNearest(s.architecture, architectures)));
  }
  RETURN_IF_ERROR(reader.status());
  return s;
}

}  // namespace muster::worker
