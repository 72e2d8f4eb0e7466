#include "cluster/evaluate_command.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "cluster/trained_model.h"
#include "configs/scalar.h"
#include "master/gather.h"
#include "telemetry/cores.h"

namespace muster::cluster {
namespace {

constexpr char kHelp[] =
    R"(usage: launch evaluate --job-dir=DIR [--split=testing|validation] [-- MODULE FLAGS]

Accuracy and confusion matrix of the newest checkpoint of the job in DIR, on the testing split of the
job's data. Flags of the job's module after `--` replace the job's own, for instance
`-- --data_dir=data/others --testing_percentage=100`.
)";

struct EvaluateWords {
  std::string job_dir;
  std::string split = "testing";
  std::vector<std::string> args;  // of the module
  bool help = false;
};

// Fails naming the word.
absl::StatusOr<EvaluateWords> Parse(const std::vector<std::string>& words) {
  EvaluateWords parsed;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const std::string name = word.substr(0, word.find('='));
    if (word == "--") {
      parsed.args.assign(words.begin() + static_cast<int64_t>(i) + 1, words.end());
      break;
    }
    if (word == "--help" || word == "-h") {
      parsed.help = true;
    } else if (name == "--job-dir" || name == "--split") {
      std::string& value = name == "--split" ? parsed.split : parsed.job_dir;
      if (word != name) {
        value = word.substr(name.size() + 1);
      } else if (i + 1 < words.size()) {
        value = words[++i];
      }
    } else {
      return absl::InvalidArgumentError(
          fmt::format("launch evaluate takes no {}; write --job-dir=DIR, --split=testing or "
                      "--split=validation, "
                      "and the module's flags after --",
                      Quoted(word)));
    }
  }
  if (parsed.help) return parsed;
  if (parsed.job_dir.empty()) {
    return absl::InvalidArgumentError(
        "--job-dir is missing; write the directory of the job whose model is to be evaluated");
  }
  if (parsed.split != "testing" && parsed.split != "validation") {
    return absl::InvalidArgumentError(
        fmt::format("--split={}: write testing or validation", parsed.split));
  }
  return parsed;
}

// What the module has to say goes to the user.
class ErrorLog : public Log {
 public:
  explicit ErrorLog(std::FILE* err) : err_(err) {}
  void Write(Level level, std::string_view text) override {
    if (level == Level::kWarning) fmt::print(err_, "warning: {}\n", text);
  }

 private:
  std::FILE* const err_;
};

absl::Status Evaluate(const EvaluateWords& words, const CommandContext& context) {
  std::vector<std::string> warnings;
  auto model =
      TrainedModel::Open(words.job_dir, JobModule(context.resolve, words.args, context.bring_data),
                         UsableCores(), &warnings);
  for (const std::string& warning : warnings) fmt::print(context.err, "warning: {}\n", warning);
  RETURN_IF_ERROR(model.status());

  const bool live = isatty(fileno(context.err)) != 0;
  ErrorLog log(context.err);
  const auto split =
      words.split == "testing" ? worker::Split::kTesting : worker::Split::kValidation;
  const auto confusion = (*model)->Evaluate(split, log, [&](int64_t done, int64_t size) {
    if (live) fmt::print(context.err, "\r{} of {} samples", done, size);
    return absl::OkStatus();
  });
  if (live) fmt::print(context.err, "\r\x1b[K");
  RETURN_IF_ERROR(confusion.status());
  int64_t samples = 0;
  for (const int64_t count : *confusion) samples += count;
  fmt::print(context.out, "{}\n\n", master::FormatConfusion(*confusion, (*model)->labels()));
  fmt::print(context.out, "checkpoint           step {} of {}\n", (*model)->step(), words.job_dir);
  fmt::print(context.out, "samples              {} of the {} split\n", samples, words.split);
  fmt::print(context.out, "accuracy             {:.1f} %\n", 100 * master::Accuracy(*confusion));
  return absl::OkStatus();
}

}  // namespace

int RunEvaluateCommand(const CommandContext& context) {
  const auto words = Parse(context.words);
  if (!words.ok()) {
    fmt::print(context.err, "{}\n", std::string(words.status().message()));
    return kWrongInput;
  }
  if (words->help) {
    fmt::print(context.out, "{}", kHelp);
    return kSucceeded;
  }
  const absl::Status status = Evaluate(*words, context);
  if (!status.ok()) fmt::print(context.err, "{}\n", std::string(status.message()));
  return ExitCodeOf(status);
}

}  // namespace muster::cluster
