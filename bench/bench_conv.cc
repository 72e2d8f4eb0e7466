// bench_conv: how near to the machine's arithmetic the training of `conv` comes, in one process.
//
// Roof: sgemm of 1024 x 1024 matrices on the same device, in FLOP/s. A step: loss, gradients and an
// SGD update of a batch. Roof and step take turns, so that what else the machine does meets both;
// the ratio is the median over the rounds.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "bench/timing.h"
#include "kernels/op.h"
#include "kernels/philox.h"
#include "telemetry/check.h"
#include "worker/models/models.h"

namespace muster {
namespace {

using bench::Median;
using bench::Seconds;

std::vector<float> Random(int64_t n) {
  std::vector<float> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = 2 * UniformFloat(Philox({1, 2}, i)[0]) - 1;
  return values;
}

// FLOP/s of one product of square matrices.
class Roof {
 public:
  Roof(Stream& stream, int64_t n) : stream_(stream), n_(n), a_(Random(n * n)), c_(n * n) {}
  double Measure() {
    const double seconds = Seconds([this] {
      MatMul(stream_, {a_.data(), {n_, n_}}, {a_.data(), {n_, n_}}, {c_.data(), {n_, n_}});
    });
    const auto n = static_cast<double>(n_);
    return 2 * n * n * n / seconds;
  }

 private:
  Stream& stream_;
  const int64_t n_;
  const std::vector<float> a_;
  std::vector<float> c_;
};

class Training {
 public:
  Training(const std::string& model, Device& device, Stream& stream, int64_t batch)
      : stream_(stream), batch_(batch) {
    auto made = worker::MakeImageModel(model, {}, device);
    CHECK(made.ok());
    model_ = *std::move(made);
    auto table = ps::ParamTable::Make(model_->params());
    CHECK(table.ok());
    CHECK(model_->Prepare(*table, batch).ok());
    weights_ = Random(table->arena_size());
    for (float& w : weights_) w *= 0.01f;
    grads_.resize(weights_.size());
    inputs_ = Random(batch * model_->input_size());
    for (int64_t i = 0; i < batch; ++i) {
      labels_.push_back(static_cast<int32_t>(i % model_->num_classes()));
    }
  }

  // FLOP/s of one step.
  double Measure() {
    const double seconds = Seconds([this] {
      model_->Forward(weights_, {inputs_, labels_, batch_}, {1, step_++, 0});
      model_->Backward(weights_, grads_, [](ps::ParamId) {});
      const Shape all{static_cast<int64_t>(weights_.size())};
      Axpy(stream_, -0.001f, {grads_.data(), all}, {weights_.data(), all});
    });
    return flops_per_sample() * static_cast<double>(batch_) / seconds;
  }
  double flops_per_sample() const { return model_->flops_per_sample(); }

 private:
  Stream& stream_;
  const int64_t batch_;
  std::unique_ptr<worker::Model> model_;
  std::vector<float> weights_, grads_, inputs_;
  std::vector<int32_t> labels_;
  int64_t step_ = 0;
};

int Run(int argc, char** argv) {
  CLI::App app("Training FLOP/s of a model over sgemm FLOP/s, in one process");
  std::string name = "conv";
  int threads = 2, rounds = 21;
  int64_t batch = 100;
  bool smoke = false;
  app.add_option("--model", name, "architecture");
  app.add_option("--threads", threads, "threads of the device")->check(CLI::PositiveNumber);
  app.add_option("--batch", batch, "samples of a step")->check(CLI::PositiveNumber);
  app.add_option("--rounds", rounds, "pairs of roof and step")->check(CLI::PositiveNumber);
  app.add_flag("--smoke", smoke, "one small round, to see that it runs");
  CLI11_PARSE(app, argc, argv);
  if (smoke) {
    rounds = 1;
    batch = 2;
  }
  const auto device = MakeCpuDevice(threads);
  const auto stream = device->MakeStream();
  Roof roof(*stream, smoke ? 128 : 1024);
  Training training(name, *device, *stream, batch);
  roof.Measure();
  training.Measure();
  std::vector<double> roofs, steps, ratios;
  for (int round = 0; round < rounds; ++round) {
    std::vector<double> around;  // the roof before and after the step
    for (int i = 0; i < 10; ++i) around.push_back(roof.Measure());
    steps.push_back(training.Measure());
    for (int i = 0; i < 10; ++i) around.push_back(roof.Measure());
    roofs.push_back(Median(around));
    ratios.push_back(steps.back() / roofs.back());
  }
  const double step = Median(steps), top = Median(roofs), ratio = Median(ratios);
  fmt::print("device {}: {}\n", device->name(), device->description());
  fmt::print("{}: batch {}, {:.3f} GFLOP a sample, {} rounds\n", name, batch,
             training.flops_per_sample() / 1e9, rounds);
  fmt::print("sgemm(1024)  {:7.1f} GFLOP/s\n", top / 1e9);
  fmt::print("training     {:7.1f} GFLOP/s   {:.1f} samples/s\n", step / 1e9,
             step / training.flops_per_sample());
  fmt::print("ratio        {:7.3f}   (at least 0.75 for conv)\n", ratio);
  if (ratio > 1) fmt::print("A step cannot beat its roof: something else used the machine.\n");
  return 0;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Run(argc, argv); }
