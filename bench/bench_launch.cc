// bench_launch: what it costs to start a job, and what a separate server process costs. Both
// through the `launch` program on real data.
//
//   bench_launch [--pairs N] [--data DIR] [--rows loop_tiny_conv] [--json FILE] [--smoke]
//
//   first_step   seconds from the start of `launch` to the first finished step: tiny_conv, batch
//                100, chief + 4 workers + 2 servers; median
//   server_cost  time per step with one separate server process over time per step in one process
//                (BASIC), tiny_conv, chief alone: mean of the ratios over interleaved pairs, with
//                the 95 % interval (normal approximation); as a job runs on one machine, and
//                with its tensors sent over gRPC (cluster.sharedMemory: false). With --rows
//                loop_tiny_conv only the first of these, which --json calls so
//   memory       peak resident memory of a trainer process of the conv model, batch 100, beyond
//                its weights, gradients and one batch's activations (the slots are the server's)
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/program_beside.h"
#include "bench/timing.h"
#include "kernels/device.h"
#include "master/history.h"
#include "master/job_directory.h"
#include "master/job_state.h"
#include "telemetry/file.h"
#include "telemetry/quiet_program.h"
#include "telemetry/time.h"
#include "tests/harness/temporary_folder.h"
#include "worker/models/models.h"

namespace {

using muster::RunQuietly;
using muster::StartQuietly;
using muster::bench::DieOf;
using muster::bench::Median;
using muster::bench::ProgramBeside;

struct Options {
  int pairs = 30;
  int starts = 11;
  int64_t steps = 200;
  std::string data = "data/speech_commands";
  std::string launch;
};

struct Run {
  double first_step_s = 0;    // from the start of `launch`
  double step_ms = 0;         // from the second loss point to the last
  int64_t trainer_bytes = 0;  // peak resident memory of the chief's trainer process
};

// Peak resident bytes of process `pid` so far; 0 when it is gone.
int64_t PeakResidentBytes(int64_t pid) {
  std::ifstream status(fmt::format("/proc/{}/status", pid));
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::atoll(line.c_str() + 6) * 1024;
  }
  return 0;
}

// Waits for `launch`, and meanwhile follows the memory of the chief's trainer process.
int Wait(pid_t launch, const std::string& folder, int64_t* trainer_bytes) {
  int status = 0;
  for (;;) {
    if (waitpid(launch, &status, WNOHANG) == launch) return status;
    if (const auto state = muster::master::ReadJobState(folder + "/state.json");
        state.ok() && !state->replicas.empty() && !state->replicas.front().pids.empty()) {
      *trainer_bytes =
          std::max(*trainer_bytes, PeakResidentBytes(state->replicas.front().pids.back()));
    }
    usleep(20'000);
  }
}

// Runs `launch` with `args` in a fresh job directory; exits when it fails.
Run Launch(const Options& options, std::vector<std::string> args, int64_t steps,
           const std::string& model = "tiny_conv") {
  const muster::harness::TemporaryFolder temporary;
  const std::string& folder = temporary.path();
  args.insert(args.begin(), options.launch);
  for (std::string arg :
       {std::string("--job-dir=") + folder, std::string("--"), "--model_architecture=" + model,
        "--data_dir=" + options.data, fmt::format("--how_many_training_steps={}", steps),
        std::string("--learning_rate=0.001"), fmt::format("--eval_step_interval={}", steps),
        fmt::format("--save_step_interval={}", steps)}) {
    args.push_back(std::move(arg));
  }
  const int64_t begin_ms = muster::UnixMillis();
  Run run;
  const pid_t pid = StartQuietly(args);
  if (pid < 0 || Wait(pid, folder, &run.trainer_bytes) != 0) DieOf(args);
  const auto history =
      muster::master::ReadHistory(muster::master::JobDirectory(folder).history(), nullptr);
  if (!history.ok() || history->losses.size() < 2) {
    fmt::print(stderr, "bench_launch: no history in {}\n", folder);
    std::exit(1);
  }
  const auto& losses = history->losses;
  run.first_step_s = static_cast<double>(losses.front().time_ms - begin_ms) / 1000;
  const auto& warm = losses[1];
  run.step_ms = static_cast<double>(losses.back().time_ms - warm.time_ms) /
                static_cast<double>(losses.back().step - warm.step);
  return run;
}

void PrintMemory(const Options& options, const std::vector<std::string>& server, int64_t steps) {
  constexpr int64_t kBatch = 100;
  const auto device = muster::MakeCpuDevice(1);
  const auto model = muster::worker::MakeImageModel("conv", {}, *device);
  if (!model.ok()) std::exit(1);
  int64_t weights = 0, activations = kBatch * (*model)->input_size();
  for (const auto& spec : (*model)->params()) weights += spec.size();
  for (const auto& layer : (*model)->layers()) {
    if (layer.kind == "relu") continue;  // in place
    int64_t size = kBatch;
    for (int64_t d : layer.output_shape) size *= d;
    activations += size;
  }
  const auto owed = static_cast<int64_t>(sizeof(float)) * (2 * weights + activations);
  const int64_t peak = Launch(options, server, steps, "conv").trainer_bytes;
  fmt::print(
      "memory       {:.0f} MB beyond the {:.0f} MB of weights, gradients and activations; asked <= "
      "100 MB\n",
      static_cast<double>(peak - owed) / 1e6, static_cast<double>(owed) / 1e6);
}

// Returns it as a row.
nlohmann::json PrintCost(const char* name, double asked_percent,
                         const std::vector<double>& ratios) {
  double mean = 0, variance = 0;
  for (double r : ratios) mean += r / static_cast<double>(ratios.size());
  for (double r : ratios) variance += (r - mean) * (r - mean);
  const double n = static_cast<double>(ratios.size());
  const double error = n > 1 ? 1.96 * std::sqrt(variance / (n - 1) / n) : 0;
  fmt::print("{} {:+.1f} % [{:+.1f}, {:+.1f}] over {} pairs, median {:+.1f} %; asked <= +{} %\n",
             name, 100 * (mean - 1), 100 * (mean - error - 1), 100 * (mean + error - 1),
             ratios.size(), 100 * (Median(ratios) - 1), asked_percent);
  return {{"value", 100 * (mean - 1)},
          {"unit", "%"},
          {"least", 100 * (mean - error - 1)},
          {"most", 100 * (mean + error - 1)},
          {"asked", asked_percent},
          {"is_time", true}};
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  bool smoke = false, only_loop = false;
  std::string json;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--smoke") == 0) {
      smoke = true;
    } else if (std::strcmp(argv[i], "--pairs") == 0 && i + 1 < argc) {
      options.pairs = std::atoi(argv[++i]);
    } else if (std::strcmp(argv[i], "--data") == 0 && i + 1 < argc) {
      options.data = argv[++i];
    } else if (std::strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
      json = argv[++i];
    } else if (std::strcmp(argv[i], "--rows") == 0 && i + 1 < argc &&
               std::strcmp(argv[i + 1], "loop_tiny_conv") == 0) {
      only_loop = true;
      ++i;
    } else {
      fmt::print(stderr,
                 "usage: bench_launch [--pairs N] [--data DIR] [--rows loop_tiny_conv] [--json "
                 "FILE] [--smoke]\n");
      return 2;
    }
  }
  options.launch = ProgramBeside("launch");
  std::optional<muster::harness::TemporaryFolder>
      made;  // data of our own, for the smoke run on a machine that has none yet
  if (smoke) {
    options.pairs = options.starts = 1;
    options.steps = 30;
    options.data = made.emplace().path();
    const std::vector<std::string> make = {ProgramBeside("make_speech_data"), "--out", options.data,
                                           "--clips", "1200"};
    if (RunQuietly(make) != 0) DieOf(make);
  }

  const std::vector<std::string> module = {"--module-name=speech_commands.train"};
  std::vector<std::string> cluster = module;
  for (const char* flag :
       {"--scale-tier=custom", "--master-machine-type=standard", "--worker-machine-type=standard",
        "--worker-count=4", "--parameter-server-machine-type=standard",
        "--parameter-server-count=2"}) {
    cluster.push_back(flag);
  }
  std::vector<double> starts;
  for (int i = 0; i < options.starts && !only_loop; ++i) {
    starts.push_back(Launch(options, cluster, 30).first_step_s);
  }
  if (!only_loop) {
    fmt::print(
        "first_step   median {:.2f} s over {} starts (best {:.2f}, worst {:.2f}); asked <= 1 s\n",
        Median(starts), starts.size(), *std::min_element(starts.begin(), starts.end()),
        *std::max_element(starts.begin(), starts.end()));
    std::fflush(stdout);
  }

  std::vector<std::string> basic = module, server = module;
  basic.push_back("--scale-tier=basic");
  for (const char* flag :
       {"--scale-tier=custom", "--master-machine-type=standard",
        "--parameter-server-machine-type=standard", "--parameter-server-count=1"}) {
    server.push_back(flag);
  }
  std::vector<std::string> over_grpc = server;
  over_grpc.push_back("--set=cluster.sharedMemory=false");
  std::vector<std::vector<std::string>> ways = {basic, server};
  if (!only_loop) ways.push_back(over_grpc);
  std::vector<double> shared_ratios, grpc_ratios;
  for (int i = 0; i < options.pairs; ++i) {
    // Which goes first changes, so that a drift of the machine cancels.
    std::vector<double> step_ms(ways.size());
    for (size_t k = 0; k < ways.size(); ++k) {
      const size_t way = (k + static_cast<size_t>(i)) % ways.size();
      step_ms[way] = Launch(options, ways[way], options.steps).step_ms;
    }
    shared_ratios.push_back(step_ms[1] / step_ms[0]);
    if (!only_loop) grpc_ratios.push_back(step_ms[2] / step_ms[0]);
  }
  nlohmann::json rows = nlohmann::json::array();
  rows.push_back(PrintCost("server_cost ", 3, shared_ratios));
  rows.back()["name"] = "loop_tiny_conv";
  if (!only_loop) {
    rows.push_back(PrintCost("  over gRPC ", 5, grpc_ratios));
    rows.back()["name"] = "loop_tiny_conv_grpc";
    PrintMemory(options, server, smoke ? 2 : 6);
  }
  if (json.empty()) return 0;
  const absl::Status status = muster::WriteFileAtomically(json, rows.dump(1) + "\n");
  if (!status.ok()) fmt::print(stderr, "bench_launch: {}\n", std::string(status.message()));
  return status.ok() ? 0 : 1;
}
