#include "cluster/predict_command.h"

#include <fmt/format.h>

#include "cluster/predict.h"
#include "configs/scalar.h"

namespace muster::cluster {
namespace {

constexpr char kHelp[] =
    R"(usage: launch predict --job-dir=DIR FILE...

Prints the three likeliest labels of each file, by the newest checkpoint of the job in DIR. A file is
what the job's module reads: for speech_commands a WAV file of 16-bit mono samples.
)";

struct PredictWords {
  std::string job_dir;
  std::vector<std::string> files;
  bool help = false;
};

// Fails naming the word.
absl::StatusOr<PredictWords> Parse(const std::vector<std::string>& words) {
  PredictWords parsed;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--help" || word == "-h") {
      parsed.help = true;
    } else if (word == "--job-dir" && i + 1 < words.size()) {
      parsed.job_dir = words[++i];
    } else if (word.starts_with("--job-dir=")) {
      parsed.job_dir = word.substr(word.find('=') + 1);
    } else if (word == "--") {
      parsed.files.insert(parsed.files.end(), words.begin() + i + 1, words.end());
      break;
    } else if (word.starts_with("-")) {
      return absl::InvalidArgumentError(
          fmt::format("launch predict has no flag {}; write --job-dir=DIR FILE...", Quoted(word)));
    } else {
      parsed.files.push_back(word);
    }
  }
  if (parsed.help) return parsed;
  if (parsed.job_dir.empty()) {
    return absl::InvalidArgumentError(
        "--job-dir is missing; write the directory of the job whose model is to predict");
  }
  if (parsed.files.empty()) {
    return absl::InvalidArgumentError(
        "no file is named; write launch predict --job-dir=DIR FILE...");
  }
  return parsed;
}

}  // namespace

int RunPredictCommand(const CommandContext& context) {
  const auto words = Parse(context.words);
  if (!words.ok()) {
    fmt::print(context.err, "{}\n", std::string(words.status().message()));
    return kWrongInput;
  }
  if (words->help) {
    fmt::print(context.out, "{}", kHelp);
    return kSucceeded;
  }
  return RunPredict(words->job_dir, words->files, JobModule(context.resolve), context.out,
                    context.err);
}

}  // namespace muster::cluster
