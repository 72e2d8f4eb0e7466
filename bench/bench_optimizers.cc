// bench_optimizers: how near to the memory's bandwidth the server's updates come, on one thread.
//
// Roof: STREAM's triad, a = b + s * c over float32, 12 bytes an element as STREAM counts them. An
// update of 64 Mi parameters counts what its formula reads and writes: gradient, weight and slots
// read, weight and slots written, 28 bytes a parameter for Adam. Triad and update take turns, so
// that what else the machine does meets both; a ratio is the median over the rounds. It can pass 1:
// triad writes an array that it did not read, which the memory must fetch all the same.
//
// "in place" updates the weights where they lie; "front to back" writes them to a second array, as
// a server does whose readers still hold the first.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "bench/array.h"
#include "bench/timing.h"
#include "kernels/device.h"
#include "kernels/optimizer_math.h"
#include "ps/optimizer.h"
#include "telemetry/check.h"
#include "telemetry/file.h"

namespace muster {
namespace {

using bench::Array;
using bench::Median;
using bench::Seconds;

class Bench {
 public:
  explicit Bench(int64_t n) : n_(n), grad_(n, 0.01f), weights_(n, 0.5f), back_(n, 0.5f) {}

  void Measure(const std::string& name, int rounds) {
    auto made = ps::MakeOptimizer(name, {});
    CHECK(made.ok());
    const ps::Optimizer& optimizer = **made;
    const auto count = static_cast<int>(optimizer.slot_names().size());
    std::vector<Array> slots;
    std::vector<std::span<float>> views;
    slots.reserve(static_cast<size_t>(count));
    views.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) slots.emplace_back(n_, optimizer.slot_init(i));
    for (const Array& slot : slots) views.push_back(slot.span());
    const int bytes = (3 + 2 * count) * static_cast<int>(sizeof(float));
    ps::StepInfo info;
    info.learning_rate = 1e-3f;
    const auto rate = [&](int bytes_each, const std::function<void()>& work) {
      return static_cast<double>(n_) * bytes_each / Seconds(work);
    };
    std::vector<double> gb, place, back;
    for (int round = 0; round < rounds; ++round) {
      const double before = rate(12, [&] { Triad(); });
      const double there = rate(bytes, [&] { Apply(optimizer, info, weights_.span(), views); });
      const double between = rate(12, [&] { Triad(); });
      const double across = rate(bytes, [&] { Apply(optimizer, info, back_.span(), views); });
      const double after = rate(12, [&] { Triad(); });
      triads_.insert(triads_.end(), {before, between, after});
      gb.push_back(there / 1e9);
      place.push_back(there / ((before + between) / 2));
      back.push_back(across / ((between + after) / 2));
      ++info.applies;
    }
    fmt::print("{:<10} {:>6} {:>10.1f} {:>10.2f} {:>14.2f}\n", name, bytes, Median(gb),
               Median(place), Median(back));
    rows_.push_back({{"name", fmt::format("{}_{}m", name, n_ >> 20)},
                     {"value", Median(gb)},
                     {"unit", "GB/s"},
                     {"roof", Median(triads_) / 1e9},
                     {"ratio", Median(place)},
                     {"asked", name == "adam" ? 1.4 : 0.0}});
  }
  double triad() const { return Median(triads_); }
  const nlohmann::json& rows() const { return rows_; }

 private:
  void Triad() const { bench::Triad(back_.span(), grad_.span(), weights_.span(), 0.5f); }
  // In quanta, as ps/slice_values.cc does.
  void Apply(const ps::Optimizer& optimizer, const ps::StepInfo& info, std::span<float> next,
             const std::vector<std::span<float>>& slots) const {
    std::vector<std::span<float>> parts(slots.size());
    for (int64_t begin = 0; begin < n_; begin += kQuantum) {
      const auto at = static_cast<size_t>(begin);
      const auto size = static_cast<size_t>(std::min(kQuantum, n_ - begin));
      for (size_t s = 0; s < slots.size(); ++s) parts[s] = slots[s].subspan(at, size);
      if (optimizer.has_trust_ratio()) {
        optimizer.Direct(*stream_, info, grad_.span().subspan(at, size),
                         weights_.span().subspan(at, size), parts);
      }
      optimizer.Apply(*stream_, info, grad_.span().subspan(at, size),
                      weights_.span().subspan(at, size), next.subspan(at, size), parts);
    }
  }

  const int64_t n_;
  const std::unique_ptr<Device> cpu_ = MakeCpuDevice(1);
  const std::unique_ptr<Stream> stream_ = cpu_->MakeStream();
  const Array grad_, weights_, back_;
  std::vector<double> triads_;
  nlohmann::json rows_ = nlohmann::json::array();
};

int Run(int argc, char** argv) {
  CLI::App app("Bytes per second of the server's updates over STREAM's triad, on one thread");
  int64_t mi = 64;
  int rounds = 9;
  std::string only, json;
  bool smoke = false;
  app.add_option("--parameters", mi, "Mi parameters")->check(CLI::PositiveNumber);
  app.add_option("--rounds", rounds, "of triad and update")->check(CLI::PositiveNumber);
  app.add_option("--optimizer", only, "only this one");
  app.add_option("--json", json, "a file for the figures");
  app.add_flag("--smoke", smoke, "one small round, to see that it runs");
  CLI11_PARSE(app, argc, argv);
  if (smoke) mi = rounds = 1;
  Bench bench(mi << 20);
  fmt::print("{} Mi parameters, median of {} rounds\n", mi, rounds);
  fmt::print("{:<10} {:>6} {:>10} {:>10} {:>14}\n", "update", "bytes", "GB/s", "in place",
             "front to back");
  for (const std::string& name : ps::OptimizerNames()) {
    if (only.empty() || name == only) bench.Measure(name, rounds);
  }
  fmt::print("triad      {:>17.1f}   (asked of adam, in place: at least 1.40)\n",
             bench.triad() / 1e9);
  if (json.empty()) return 0;
  const absl::Status status = WriteFileAtomically(json, bench.rows().dump(1) + "\n");
  if (!status.ok()) fmt::print(stderr, "bench_optimizers: {}\n", std::string(status.message()));
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Run(argc, argv); }
