// bench_codec_convergence: what codecs cost in accuracy, of gradients that are pushed and, as
// "pull_NAME", of parameters that are pulled. Trains the speech job through `launch` with each
// codec and without, the same seeds with all, and compares the accuracies on the test split.
//
//   bench_codec_convergence [--data DIR] [--seeds N] [--steps N] [--rate R] [--model NAME]
//                           [--codecs NAME,...] [--json FILE] [--smoke]
//
// For each codec: the mean over the seeds of (accuracy with it - accuracy without), which pairs
// runs that begin with the same weights and see the same batches, and its 95 % interval by
// Student's t. The job: tiny_conv, chief and one worker, one server, BSP, Momentum, a tenth of the
// learning rate for the last quarter; more than half of the clips are for testing, so that the
// 8,000 of `make_speech_data` give the 4,000 that are asked.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench/program_beside.h"
#include "master/history.h"
#include "master/job_directory.h"
#include "telemetry/file.h"
#include "telemetry/quiet_program.h"
#include "tests/harness/temporary_folder.h"

namespace muster {
namespace {

using namespace bench;

constexpr int64_t kLeastClips = 4000;

struct Options {
  std::string data = "data/speech_commands";
  int seeds = 3;
  int64_t steps = 4000;
  double rate = 0.003;  // of learning
  std::string model = "tiny_conv";
  std::vector<std::string> codecs = {"fp16",      "bf16",      "int8",      "1bit",
                                     "topk",      "pull_fp16", "pull_bf16", "pull_int8",
                                     "pull_1bit", "pull_topk"};
  std::string json;
  std::string launch;
};

// The most that the mean accuracy may be below that without a codec, in percentage points.
double Asked(const std::string& codec) {
  return codec.ends_with("1bit") || codec.ends_with("topk") ? 1.5 : 0.5;
}

// training.codec.
std::string CodecText(const std::string& codec) {
  constexpr std::string_view kPull = "pull_";
  return codec.starts_with(kPull) ? "pull: " + codec.substr(kPull.size()) : "push: " + codec;
}

// Two-sided 95 % points of Student's t by degrees of freedom, from 1 on; then the normal's.
double StudentT(size_t freedom) {
  constexpr double kPoints[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262};
  return freedom <= std::size(kPoints) ? kPoints[freedom - 1] : 1.96;
}

std::string JobText(const Options& options, const std::string& codec, int seed) {
  const int64_t slow = options.steps / 4;
  return fmt::format(R"(
trainingInput:
  scaleTier: CUSTOM
  masterType: standard
  workerType: standard
  workerCount: 1
  parameterServerType: standard
  parameterServerCount: 1
  pythonModule: speech_commands.train
  args: [--data_dir={}, --model_architecture={}, --window_stride_ms=20, --testing_percentage=54, --validation_percentage=3]
training:
  seed: {}
  batchSize: 50
  schedule:
  - {{steps: {}, learningRate: {}}}
  - {{steps: {}, learningRate: {}}}
  optimizer: {{name: momentum, params: {{momentum: 0.9}}}}
  codec: {{{}}}
)",
                     options.data, options.model, seed, options.steps - slow, options.rate, slow,
                     options.rate / 10, CodecText(codec));
}

struct Run {
  double percent = 0;  // of the test clips that were told right
  int64_t clips = 0;
};

Run Train(const Options& options, const std::string& codec, int seed) {
  const harness::TemporaryFolder folder;
  const std::string config = folder.path() + "/config.yaml";
  const std::vector<std::string> args = {options.launch, "--config=" + config,
                                         "--job-dir=" + folder.path() + "/job"};
  if (!WriteFileAtomically(config, JobText(options, codec, seed)).ok() || RunQuietly(args) != 0) {
    DieOf(args);
  }
  const auto history =
      master::ReadHistory(master::JobDirectory(folder.path() + "/job").history(), nullptr);
  const master::EvaluationPoint* test = history.ok() ? history->Last("testing") : nullptr;
  if (test == nullptr) DieOf(args);
  return {100 * test->accuracy,
          std::accumulate(test->confusion.begin(), test->confusion.end(), int64_t{0})};
}

// The mean of the differences and half of its interval; infinite of one alone.
std::pair<double, double> MeanAndError(const std::vector<double>& differences) {
  const auto n = static_cast<double>(differences.size());
  const double mean = std::accumulate(differences.begin(), differences.end(), 0.0) / n;
  if (differences.size() < 2) return {mean, std::numeric_limits<double>::infinity()};
  double squares = 0;
  for (const double d : differences) squares += (d - mean) * (d - mean);
  return {mean, StudentT(differences.size() - 1) * std::sqrt(squares / (n - 1) / n)};
}

int Compare(const Options& options) {
  std::map<std::string, std::vector<double>> percents;  // by codec, by seed
  int64_t clips = 0;
  for (int seed = 1; seed <= options.seeds; ++seed) {
    fmt::print("seed {}:", seed);
    std::vector<std::string> codecs = {"none"};
    codecs.insert(codecs.end(), options.codecs.begin(), options.codecs.end());
    for (const std::string& codec : codecs) {
      const Run run = Train(options, codec, seed);
      percents[codec].push_back(run.percent);
      clips = run.clips;
      fmt::print(" {} {:.2f} %", codec, run.percent);
      std::fflush(stdout);
    }
    fmt::print("\n");
  }
  fmt::print("{} steps, {} test clips{}\n", options.steps, clips,
             clips < kLeastClips ? fmt::format(", {} are asked", kLeastClips) : "");
  nlohmann::json rows = nlohmann::json::array();
  for (const std::string& codec : options.codecs) {
    std::vector<double> differences;
    for (size_t i = 0; i < percents[codec].size(); ++i) {
      differences.push_back(percents[codec][i] - percents["none"][i]);
    }
    const auto [mean, error] = MeanAndError(differences);
    fmt::print("{:<9} {:+.2f} points [{:+.2f}, {:+.2f}]; asked >= -{}\n", codec, mean, mean - error,
               mean + error, Asked(codec));
    rows.push_back({{"name", "convergence_" + codec},
                    {"value", mean},
                    {"unit", "points"},
                    {"error", std::isfinite(error) ? nlohmann::json(error) : nlohmann::json()},
                    {"asked", -Asked(codec)}});
  }
  if (options.json.empty()) return 0;
  return WriteFileAtomically(options.json, rows.dump(1) + "\n").ok() ? 0 : 1;
}

int Main(int argc, char** argv) {
  Options options;
  bool smoke = false;
  CLI::App app("What codecs cost in accuracy.");
  app.add_option("--data", options.data, "speech data")->capture_default_str();
  app.add_option("--seeds", options.seeds)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--steps", options.steps)->check(CLI::Range(4, 1 << 30))->capture_default_str();
  app.add_option("--rate", options.rate, "of learning, at first")->capture_default_str();
  app.add_option("--model", options.model)->capture_default_str();
  app.add_option("--codecs", options.codecs)->delimiter(',')->capture_default_str();
  app.add_option("--json", options.json, "a file for the figures");
  app.add_flag("--smoke", smoke, "only see whether it works");
  CLI11_PARSE(app, argc, argv);
  options.launch = ProgramBeside("launch");
  std::optional<harness::TemporaryFolder> made;  // data of our own
  if (smoke) {
    options.seeds = 1;
    options.steps = 20;
    options.codecs = {"topk", "pull_topk"};
    options.data = made.emplace().path();
    const std::vector<std::string> make = {ProgramBeside("make_speech_data"), "--out", options.data,
                                           "--clips", "1200"};
    if (RunQuietly(make) != 0) DieOf(make);
  }
  return Compare(options);
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Main(argc, argv); }
