// bench_gpu: each kernel of a GPU against its memory, products against the largest product, and
// training steps, in one process.
//
//   copy      bytes moved by copies of 512 MiB within the device: the roof of all kernels that move
//             memory, which count the bytes that their arguments make them read and write
//   matmul    a product of large matrices: the roof of the convolutions' FLOP/s
//   front_end what makes features of the speech job's batches: the frames of sounds and the
//             logarithms of mel channels as kernels that move memory; all of it for a batch of 100,
//             in float32, by the FLOPs of its products
//   step_*    loss and gradients of a model, batch 100, in the device's memory: captured in graphs,
//             and, _no_graph, told op by op
//   nccl_*    a collective operation of one rank, this GPU: what a call costs beside the copy
//
// Roof and row take turns. --device cpu runs the same on the CPU, which shows that it works.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "bench/figures.h"
#include "bench/speech_clips.h"
#include "bench/timing.h"
#include "kernels/codec.h"
#include "kernels/communicator.h"
#include "kernels/gpu.h"
#include "kernels/op.h"
#include "kernels/philox.h"
#include "telemetry/build_id.h"
#include "telemetry/check.h"
#include "worker/models/models.h"
#include "worker/replays.h"

namespace muster {
namespace {

using bench::Figures;
using bench::Seconds;

struct Options {
  std::string device = "gpu", json;
  int rounds = 9;
  int64_t mib = 512;
  bool smoke = false;
};

class Bench {
 public:
  Bench(const Options& options, Device& device)
      : options_(options),
        device_(device),
        stream_(device.MakeStream()),
        elements_((options.mib << 20) / int64_t{sizeof(float)}) {}

  // Bytes moved per second against the copy's.
  void Memory(const char* name, double bytes, const std::function<void()>& run,
              double asked = 0.85) {
    Row(
        name, "GB/s", "copy", bytes, asked, [this] { return 1e9 * CopyRate(); }, run);
  }
  // Against the large product's.
  void Compute(const char* name, double flops, const std::function<void()>& run) {
    Row(
        name, "TFLOP/s", "matmul", flops, 0, [this] { return 1e12 * MatMulRate(); }, run);
  }

  void Kernels();
  void RowsByIds();
  void Updates();
  void Codecs();
  void NormKernels();
  void SoundKernels();
  void FrontEnd();
  void Convolutions();
  // The collective operations of one rank, this device: a copy at best.
  void Collectives(Communicator& communicator);
  void Step(const std::string& name, const std::string& model);
  void Roofs();
  const bench::Table& table() const { return table_; }

 private:
  Buffer Make(int64_t elements) { return {device_, static_cast<size_t>(elements) * sizeof(float)}; }
  Buffer MakeRandom(int64_t elements);
  double Time(const std::function<void()>& run) {
    return Seconds([&] {
      run();
      const absl::Status status = stream_->Synchronize();
      if (!status.ok()) CheckFailed(__FILE__, __LINE__, std::string(status.message()));
    });
  }
  void Row(const char* name, const char* unit, const char* roof, double work, double asked,
           const std::function<double()>& top, const std::function<void()>& run);
  double CopyRate();    // GB/s, read and written
  double MatMulRate();  // TFLOP/s

  const Options options_;
  Device& device_;
  const std::unique_ptr<Stream> stream_;
  const int64_t elements_;  // of the large arrays
  Buffer copy_from_, copy_to_, square_, product_;
  bench::Table table_;
};

Buffer Bench::MakeRandom(int64_t elements) {
  Buffer buffer = Make(elements);
  std::vector<float> some(static_cast<size_t>(std::min<int64_t>(elements, 1 << 20)));
  for (size_t i = 0; i < some.size(); ++i) some[i] = 2 * UniformFloat(Philox({1, 2}, i)[0]) - 1;
  for (int64_t at = 0; at < elements; at += static_cast<int64_t>(some.size())) {
    const auto n = std::min<int64_t>(elements - at, static_cast<int64_t>(some.size()));
    CopyToDevice(*stream_, std::span<const float>(some.data(), static_cast<size_t>(n)),
                 Tensor(buffer.data<float>() + at, {n}));
  }
  CHECK(stream_->Synchronize().ok());
  return buffer;
}

void Bench::Row(const char* name, const char* unit, const char* roof, double work, double asked,
                const std::function<double()>& top, const std::function<void()>& run) {
  run();  // the first one chooses algorithms and makes room
  Figures figures;
  const double scale = std::string(unit) == "GB/s" ? 1e9 : 1e12;
  for (int round = 0; round < options_.rounds; ++round) {
    const double roof_rate = top();
    figures.Add(work / Time(run) / scale, roof_rate / scale);
  }
  table_.Print(name, unit, roof, figures, asked, /*is_time=*/false);
}

double Bench::CopyRate() {
  if (copy_from_.size_bytes() == 0) copy_from_ = MakeRandom(elements_), copy_to_ = Make(elements_);
  const size_t bytes = copy_from_.size_bytes();
  return 2e-9 * static_cast<double>(bytes) / Time([&] {
           device_.ops().Copy(*stream_, copy_to_.data<void>(), copy_from_.data<void>(), bytes,
                              CopyDirection::kDeviceToDevice);
         });
}

double Bench::MatMulRate() {
  const int64_t n = options_.smoke ? 64 : 8192;
  if (square_.size_bytes() == 0) square_ = MakeRandom(n * n), product_ = Make(n * n);
  const auto size = static_cast<double>(n);
  return 2e-12 * size * size * size / Time([&] {
           MatMul(*stream_, {square_.data<float>(), {n, n}}, {square_.data<float>(), {n, n}},
                  {product_.data<float>(), {n, n}});
         });
}

void Bench::Roofs() {
  Figures copy, matmul;
  for (int round = 0; round < options_.rounds; ++round) {
    copy.Add(CopyRate(), 1);
    matmul.Add(MatMulRate(), 1);
  }
  table_.Print("roof_copy", "GB/s", "", copy, 0, false);
  table_.Print("roof_matmul", "TFLOP/s", "", matmul, 0, false);
}

void Bench::Kernels() {
  const int64_t n = elements_;
  const auto bytes = static_cast<double>(n) * sizeof(float);
  const Buffer x = MakeRandom(n), y = MakeRandom(n);
  const auto* in = x.data<float>();
  auto* out = y.data<float>();
  DeviceOps& ops = device_.ops();
  Stream& stream = *stream_;
  Memory("fill", bytes, [&] { ops.Fill(stream, n, 1, out); });
  Memory("axpy", 3 * bytes, [&] { ops.Axpy(stream, n, 0.5f, in, out); });
  // Rows of 64 columns, as the gradient of a convolution's bias has them.
  const Buffer sum = Make(64);
  Memory("sum_rows_64", bytes, [&] { ops.SumRows(stream, n / 64, 64, in, sum.data<float>()); });
  const int64_t features = 98 * 40 * 64;  // of conv's first pool
  const int64_t samples = n / features;
  const double used = static_cast<double>(samples * features) * sizeof(float);
  const DropoutArgs dropout{{1, 2}, 3, 0.5f};
  const Buffer mask = Make(samples * MaskWords(features));
  Memory("relu_dropout", used * (2 + 1.0 / 32), [&] {
    ops.ReluDropout(stream, samples, features, dropout, {}, in, out, mask.data<uint32_t>());
  });
  Memory("masked_scale", used * (2 + 1.0 / 32),
         [&] { ops.MaskedScale(stream, samples, features, mask.data<uint32_t>(), 2, in, out); });
  Memory("dropout", used * 2, [&] { ops.Dropout(stream, samples, features, dropout, in, out); });
  const PoolArgs pool{Window::Make({98, 40}, {2, 2}, {2, 2}, Padding::kSame), 64, true, dropout};
  const Buffer winners = Make(samples * features / 16 + 1);
  // Read: the image; written: a quarter of it, and a byte for each of these.
  Memory("relu_dropout_pool", used * (1 + 0.25 + 0.25 / 4),
         [&] { ops.MaxPool(stream, samples, pool, in, out, winners.data<uint8_t>()); });
  Memory("relu_dropout_pool_gradient", used * (1 + 0.25 + 0.25 / 4),
         [&] { ops.MaxPoolGradient(stream, samples, pool, winners.data<uint8_t>(), in, out); });
}

// As many ids as a table has rows, random; a row is 256 bytes. Read and written: the ids, the rows
// that they name, each once, and what is made of them. What a GPU sorts is not counted, and no
// share is asked of what does it.
void Bench::RowsByIds() {
  constexpr int64_t kWidth = 64;
  const int64_t rows = elements_ / kWidth;
  const Buffer table = MakeRandom(elements_), x = MakeRandom(elements_), on_device = Make(rows);
  std::vector<int32_t> ids(static_cast<size_t>(rows));
  std::vector<bool> named(ids.size());
  for (size_t p = 0; p < ids.size(); ++p) {
    ids[p] = static_cast<int32_t>(Philox({3, 4}, p)[0] % static_cast<uint32_t>(rows));
    named[static_cast<size_t>(ids[p])] = true;
  }
  device_.ops().Copy(*stream_, on_device.data<void>(), ids.data(), ids.size() * sizeof(int32_t),
                     CopyDirection::kHostToDevice);
  const ConstTensor by(on_device.data<int32_t>(), {rows});
  const Tensor all(table.data<float>(), {rows, kWidth}), some(x.data<float>(), {rows, kWidth});
  const auto distinct = static_cast<double>(std::ranges::count(named, true));
  const auto row = static_cast<double>(kWidth * sizeof(float)), n = static_cast<double>(rows);
  Memory("gather_rows", 4 * n + row * (distinct + n), [&] { GatherRows(*stream_, all, by, some); });
  Memory(
      "scatter_add_rows", 4 * n + row * (n + 2 * distinct),
      [&] { ScatterAddRows(*stream_, by, some, all); }, 0);
}

// What follows a gradient: in place, as where the parameters live on the device.
void Bench::Updates() {
  const int64_t n = elements_;
  const auto bytes = static_cast<double>(n) * sizeof(float);
  const Buffer grad = MakeRandom(n), w = MakeRandom(n), m = Make(n), v = Make(n), found = Make(1);
  DeviceOps& ops = device_.ops();
  Stream& stream = *stream_;
  const UpdateInput in{.grad = grad.data<float>(),
                       .w = w.data<float>(),
                       .w_next = w.data<float>(),
                       .n = n,
                       .scale = 1,
                       .decay = 1e-4f,
                       .learning_rate = 1e-3f,
                       .clip = 1};
  const AdamFactors adam{0.9f, 0.1f, 0.999f, 1e-3f, 1e-3f, 1, 1e-8f, 0};
  Memory("find_non_finite", bytes,
         [&] { ops.FindNonFinite(stream, n, in.grad, found.data<int32_t>()); });
  Memory("update_sgd", 3 * bytes, [&] { ops.SgdUpdate(stream, in); });
  Memory("update_momentum", 5 * bytes,
         [&] { ops.MomentumUpdate(stream, in, 0.9f, m.data<float>()); });
  Memory("update_adam", 7 * bytes,
         [&] { ops.AdamUpdate(stream, in, adam, m.data<float>(), v.data<float>()); });
}

// A gradient encoded and decoded: what the arrays have of bytes counts once, though the codecs with
// a residual read them more often, so nothing is asked of these.
void Bench::Codecs() {
  const int64_t n = elements_;
  const auto bytes = static_cast<double>(n) * sizeof(float);
  const Buffer gradient = MakeRandom(n), residual = MakeRandom(n), decoded = Make(n);
  for (const std::string& name : CodecNames()) {
    if (name == "none") continue;
    const auto codec = *MakeCodec(name);
    const auto here = device_.ops().MakeCodec(*codec);
    if (here == nullptr) continue;
    const size_t size = codec->EncodedSize(n);
    const Buffer encoding(device_, size);
    float* const kept = codec->has_residual() ? residual.data<float>() : nullptr;
    const double moved = (kept == nullptr ? 2 : 4) * bytes + 2 * static_cast<double>(size);
    Memory(("codec_" + name).c_str(), moved,
           [&] {
             here->Encode(*stream_, n, gradient.data<float>(), kept, encoding.data<std::byte>());
             here->Decode(*stream_, n, encoding.data<std::byte>(), decoded.data<float>());
           },
           kept == nullptr ? 0.85 : 0);
  }
}

// Batch norm of 64 channels, layer norm of the features that conv_norm has. Each pass over the
// large arrays counts: they are in no cache when the moments are known.
void Bench::NormKernels() {
  const Buffer x = MakeRandom(elements_), dy = MakeRandom(elements_), to = Make(elements_);
  DeviceOps& ops = device_.ops();
  Stream& stream = *stream_;
  for (const int64_t cols : {int64_t{64}, int64_t{25 * 10 * 64}}) {
    const bool of_rows = cols > 64;
    const int64_t rows = elements_ / cols, moments = of_rows ? rows : cols;
    const Buffer gain = MakeRandom(cols), offset = MakeRandom(cols), mean = Make(moments),
                 variance = Make(moments), dgain = Make(cols), doffset = Make(cols);
    const NormArgs args{
        rows, cols, 1e-5f, x.data<float>(), gain.data<float>(), offset.data<float>()};
    auto *m = mean.data<float>(), *v = variance.data<float>(), *y = to.data<float>();
    const double bytes = static_cast<double>(rows * cols) * sizeof(float);
    if (of_rows) {
      Memory("layer_norm", 3 * bytes, [&] { ops.LayerNorm(stream, args, m, v, y); });
      Memory("layer_norm_gradient", 7 * bytes, [&] {
        ops.LayerNormGradient(stream, args, m, v, dy.data<float>(), dgain.data<float>(),
                              doffset.data<float>(), y);
      });
      continue;
    }
    Memory("batch_norm_64", 3 * bytes, [&] { ops.BatchNorm(stream, args, m, v, y); });
    Memory("batch_norm_64_inference", 2 * bytes,
           [&] { ops.BatchNormInference(stream, args, m, v, y); });
    Memory("batch_norm_64_gradient", 5 * bytes, [&] {
      ops.BatchNormGradient(stream, args, m, v, dy.data<float>(), dgain.data<float>(),
                            doffset.data<float>(), y);
    });
  }
}

// One-second sounds at 16 kHz, cut as the speech job does.
void Bench::SoundKernels() {
  constexpr int64_t kSamples = 16000, kFrames = 98, kWindow = 480, kBins = 128, kChannels = 40;
  const int64_t n = elements_ / (kFrames * kWindow);
  const Buffer clips = MakeRandom(n * kSamples / 2), frames = Make(n * kFrames * kWindow);
  std::vector<SoundRecord> on_host(static_cast<size_t>(n));
  for (int64_t s = 0; s < n; ++s) {
    on_host[static_cast<size_t>(s)] = {s * kSamples, 0, static_cast<int32_t>(s % 3200 - 1600),
                                       1e-6f};
  }
  const size_t bytes = on_host.size() * sizeof(SoundRecord);
  const Buffer records(device_, bytes);
  device_.ops().Copy(*stream_, records.data<void>(), on_host.data(), bytes,
                     CopyDirection::kHostToDevice);
  const SoundArgs sounds{kSamples,
                         kFrames,
                         kWindow,
                         /*stride=*/160,
                         clips.data<int16_t>(),
                         /*noise=*/clips.data<int16_t>(),
                         records.data<std::byte>(),
                         sizeof(SoundRecord)};
  // Read: the clip and the noise, the same for all sounds; written: the frames.
  Memory("front_end_frames", static_cast<double>(n * (2 * kSamples + 4 * kFrames * kWindow)), [&] {
    FrameSounds(*stream_, sounds, {frames.data<float>(), {n, kFrames, kWindow}});
  });
  const auto front_end = worker::MfccFrontEnd::Make({});
  CHECK(front_end.ok());
  const auto put = [&](auto from) {
    Buffer buffer(device_, from.size_bytes());
    device_.ops().Copy(*stream_, buffer.data<void>(), from.data(), from.size_bytes(),
                       CopyDirection::kHostToDevice);
    return buffer;
  };
  const Buffer first = put(front_end->mel_first()), begin = put(front_end->mel_begin()),
               weights = put(front_end->mel_weights());
  const MelArgs mel{
      kBins, kChannels, 1e-3f, first.data<int32_t>(), begin.data<int32_t>(), weights.data<float>()};
  // The frames do as spectra.
  const int64_t rows = n * kFrames * kWindow / (2 * kBins);
  const Buffer log_mel = Make(rows * kChannels);
  Memory("front_end_log_mel", static_cast<double>(rows * 4 * (2 * kBins + kChannels)), [&] {
    LogMel(*stream_, mel, {frames.data<float>(), {rows, 2 * kBins}},
           {log_mel.data<float>(), {rows, kChannels}});
  });
}

void Bench::FrontEnd() {
  const int64_t batch = options_.smoke ? 4 : 100;
  const bench::SpeechClips clips(100);
  const auto log = Log::Discard();
  const auto data = clips.Training(*log);
  const auto front_end = data->MakeDeviceFrontEnd(device_, batch);
  CHECK(front_end.ok());
  const auto bytes = static_cast<size_t>((*front_end)->record_bytes());
  std::vector<std::byte> on_host(static_cast<size_t>(batch) * bytes);
  for (int64_t i = 0; i < batch; ++i) {
    int32_t label = 0;
    const auto record = std::span(on_host).subspan(static_cast<size_t>(i) * bytes, bytes);
    CHECK((*front_end)->GetRecord(i, i, record, &label).ok());
  }
  const Buffer records(device_, on_host.size());
  device_.ops().Copy(*stream_, records.data<void>(), on_host.data(), on_host.size(),
                     CopyDirection::kHostToDevice);
  const Buffer inputs = Make(batch * data->input_size());
  const worker::MfccFrontEnd& mfcc = data->front_end();
  const int64_t bins = mfcc.last_bin() - mfcc.first_bin() + 1;
  const worker::FrontEndSettings& s = mfcc.settings();
  const int64_t products = 2 * bins * s.window + s.mel_channels * s.coefficients;
  Compute("front_end", 2.0 * static_cast<double>(batch * mfcc.frames() * products), [&] {
    (*front_end)->Compute(*stream_, batch, records.data<std::byte>(), inputs.data<float>());
  });
}

void Bench::Convolutions() {
  const int64_t batch = options_.smoke ? 1 : 100;
  struct Case {
    const char *forward = nullptr, *data = nullptr, *weights = nullptr;
    Extent in, kernel;
    int64_t channels = 0;
  };
  for (const Case& c : {Case{"conv1", nullptr, "conv1_weights", {98, 40}, {20, 8}, 1},
                        Case{"conv2", "conv2_data", "conv2_weights", {49, 20}, {10, 4}, 64}}) {
    const Conv2dArgs args{Window::Make(c.in, c.kernel, {1, 1}, Padding::kSame), c.channels, 64};
    const int64_t pixels = batch * c.in.h * c.in.w;
    const double flops = 2.0 * static_cast<double>(pixels * 64 * args.patch());
    const Buffer x = MakeRandom(pixels * c.channels), w = MakeRandom(args.patch() * 64),
                 bias = MakeRandom(64), y = MakeRandom(pixels * 64), dx = Make(pixels * c.channels),
                 dw = Make(args.patch() * 64), db = Make(64);
    const std::unique_ptr<Conv2dPlan> plan = device_.ops().MakeConv2d(args);
    Compute(c.forward, flops, [&] {
      plan->Forward(*stream_, batch, x.data<float>(), w.data<float>(), bias.data<float>(),
                    y.data<float>());
    });
    if (c.data != nullptr) {
      Compute(c.data, flops, [&] {
        plan->BackwardData(*stream_, batch, y.data<float>(), w.data<float>(), dx.data<float>());
      });
    }
    Compute(c.weights, flops, [&] {
      plan->BackwardWeights(*stream_, batch, x.data<float>(), y.data<float>(), dw.data<float>(),
                            db.data<float>());
    });
  }
}

void Bench::Step(const std::string& name, const std::string& model_name) {
  const int64_t batch = options_.smoke ? 2 : 100;
  auto made = worker::MakeImageModel(model_name, {}, device_);
  CHECK(made.ok());
  worker::Model& model = **made;
  auto table = ps::ParamTable::Make(model.params());
  CHECK(table.ok());
  CHECK(model.Prepare(*table, batch).ok());
  const auto size = static_cast<size_t>(table->arena_size());
  const Buffer weights = MakeRandom(table->arena_size()), grads = Make(table->arena_size());
  Axpy(*stream_, -0.99f, {weights.data<float>(), {table->arena_size()}},
       {weights.data<float>(), {table->arena_size()}});
  const Buffer inputs = MakeRandom(batch * model.input_size());
  const Buffer labels = Make(batch);  // all of class 0
  const worker::Batch samples{
      {inputs.data<float>(), static_cast<size_t>(batch * model.input_size())},
      {labels.data<int32_t>(), static_cast<size_t>(batch)},
      batch};
  int64_t step = 0;
  Figures figures;
  const auto run = [&] {
    model.Forward({weights.data<float>(), size}, samples, {1, step++, 0});
    model.Backward({weights.data<float>(), size}, {grads.data<float>(), size}, [](ps::ParamId) {});
    (void)model.Loss();
  };
  for (int i = 0; i <= worker::Replays::kPlainRuns; ++i) run();
  for (int round = 0; round < options_.rounds; ++round) {
    figures.Add(static_cast<double>(batch) / Time(run), 1);
  }
  if (!model.graph_status().ok()) {
    fmt::print(stderr, "bench_gpu: {} without graphs: {}\n", name,
               std::string(model.graph_status().message()));
  }
  table_.Print(name.c_str(), "samples/s", "", figures, 0, false);
}

void Bench::Collectives(Communicator& communicator) {
  const int64_t count = elements_ / 4;
  const Buffer from = MakeRandom(count), to = Make(count);
  Stream* const stream = stream_.get();
  const float* const send = from.data<float>();
  float* const receive = to.data<float>();
  const double bytes = 8.0 * static_cast<double>(count);
  const auto call = [&](auto collective) {
    return [&, collective] {
      const absl::Status status =
          (communicator.*collective)({&stream, 1}, {&send, 1}, {&receive, 1}, count);
      if (!status.ok()) CheckFailed(__FILE__, __LINE__, std::string(status.message()));
    };
  };
  Memory("nccl_reduce_scatter_1", bytes, call(&Communicator::ReduceScatter), 0);
  Memory("nccl_all_gather_1", bytes, call(&Communicator::AllGather), 0);
}

int Run(int argc, char** argv) {
  Options options;
  CLI::App app("Kernels and steps of a GPU against its memory and its products");
  app.add_option("--device", options.device, "gpu, or cpu")->check(CLI::IsMember({"gpu", "cpu"}));
  app.add_option("--rounds", options.rounds, "of roof and row")->check(CLI::PositiveNumber);
  app.add_option("--mib", options.mib, "of each large array")->check(CLI::PositiveNumber);
  app.add_option("--json", options.json, "a file for the figures");
  app.add_flag("--smoke", options.smoke, "on the CPU, small: only see whether it works");
  CLI11_PARSE(app, argc, argv);
  if (options.smoke) options = {"cpu", options.json, 1, 8, true};

  nlohmann::json all = nlohmann::json::object();
  struct Case {
    GpuPrecision precision;
    const char* key;
  };
  for (const auto& [precision, key] :
       {Case{GpuPrecision::kTf32, "tf32"}, Case{GpuPrecision::kFloat32, "fp32"},
        Case{GpuPrecision::kBf16, "bf16"}}) {
    const bool tf32 = precision == GpuPrecision::kTf32;
    const bool float32 = precision == GpuPrecision::kFloat32;
    std::optional<GpuChain> chain;
    std::unique_ptr<Device> device;
    std::unique_ptr<Communicator> communicator;  // null: there is no NCCL
    if (options.device == "cpu") {
      if (!float32) continue;
      device = MakeCpuDevice(1);
    } else {
      const GpuSearch search =
          DefaultGpuSearch(BuildId(), std::getenv("HOME"), std::getenv("VIRTUAL_ENV"));
      chain = GpuChain::Find(search);
      if (precision == GpuPrecision::kBf16 && chain->status().ok() && !chain->has_bf16()) continue;
      auto gpu = chain->MakeDevice({.index = 0, .precision = precision});
      if (!gpu.ok()) {
        fmt::print(stderr, "bench_gpu: {}\n", std::string(gpu.status().message()));
        return 1;
      }
      device = *std::move(gpu);
      if (auto made = chain->MakeCommunicator(); made.ok()) communicator = *std::move(made);
    }
    fmt::print("device {}: {}, {}\n", device->name(), device->description(), NameOf(precision));
    Bench bench(options, *device);
    bench.Roofs();
    if (tf32 || options.device == "cpu")
      bench.Kernels(), bench.RowsByIds(), bench.Updates(), bench.Codecs(), bench.NormKernels(),
          bench.SoundKernels();
    if (float32) bench.FrontEnd();
    if (tf32 && communicator != nullptr) bench.Collectives(*communicator);
    bench.Convolutions();
    for (const std::string& model : worker::ImageModelNames()) bench.Step("step_" + model, model);
    all["device"] = device->description();
    all[key] = bench.table().all();
    if (options.device == "cpu") continue;
    // The same steps, op by op.
    const auto plain = chain->MakeDevice({.index = 0, .precision = precision, .graphs = false});
    CHECK(plain.ok());
    Bench without(options, **plain);
    for (const std::string& model : worker::ImageModelNames()) {
      without.Step("step_" + model + "_no_graph", model);
    }
    all[std::string(key) + "_no_graph"] = without.table().all();
  }
  if (!options.json.empty()) std::ofstream(options.json) << all.dump(1) << "\n";
  return 0;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Run(argc, argv); }
