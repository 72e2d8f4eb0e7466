#include "kernels/device_check.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "kernels/codec.h"
#include "kernels/mirror.h"
#include "kernels/op.h"
#include "kernels/philox.h"

namespace muster {
namespace {

// What an op left: all its outputs, one after the other, as numbers.
using Outputs = std::vector<double>;

// One op: makes its arrays, runs it through the mirror on the stream, and says what came out. The
// status is the device's.
using Trial = std::function<absl::Status(Stream&, Outputs&)>;

std::vector<float> Uniform(int64_t n, uint64_t seed) {
  const PhiloxKey key = DeriveKey(seed, HashName("device check"));
  std::vector<float> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    values[static_cast<size_t>(i)] = 2 * UniformFloat(Philox(key, static_cast<uint64_t>(i))[0]) - 1;
  }
  return values;
}

template <typename T>
void Append(const std::vector<T>& array, Outputs& outputs) {
  outputs.insert(outputs.end(), array.begin(), array.end());
}

OpCheck Compare(const char* name, Device& cpu, Device& device, double allowed, const Trial& trial) {
  OpCheck check{name, 0, allowed, absl::OkStatus()};
  Outputs want, got;
  check.status = trial(*cpu.MakeStream(), want);
  if (check.status.ok()) check.status = trial(*device.MakeStream(), got);
  if (!check.status.ok()) return check;
  double greatest = 0, difference = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    greatest = std::max(greatest, std::abs(want[i]));
    // A value that is not a number is as far away as can be.
    difference =
        std::isfinite(got[i]) ? std::max(difference, std::abs(got[i] - want[i])) : INFINITY;
  }
  check.difference = greatest > 0 ? difference / greatest : difference;
  return check;
}

const DropoutArgs kDropout{DeriveKey(1, 2), 3, 0.5f};

absl::Status TryMatMul(Stream& stream, Outputs& outputs, bool trans_a, bool trans_b, bool bias) {
  constexpr int64_t kM = 100, kN = 12, kK = 333;
  const auto a = Uniform(kM * kK, 1), b = Uniform(kK * kN, 2), row = Uniform(kN, 3);
  std::vector<float> c(kM * kN);
  Mirror on(stream);
  MatMulOptions options{trans_a, trans_b};
  if (bias) options.bias = on.In(row, {kN});
  MatMul(stream, on.In(a, trans_a ? Shape{kK, kM} : Shape{kM, kK}),
         on.In(b, trans_b ? Shape{kN, kK} : Shape{kK, kN}), on.Out(c, {kM, kN}), options);
  RETURN_IF_ERROR(on.Finish());
  Append(c, outputs);
  return absl::OkStatus();
}

absl::Status TryElements(Stream& stream, Outputs& outputs) {
  constexpr int64_t kN = 1003;
  const auto x = Uniform(kN, 1);
  std::vector<float> y = Uniform(kN, 2), filled(kN);
  Mirror on(stream);
  Axpy(stream, 0.5f, on.In(x, {kN}), on.Out(y, {kN}));
  Fill(stream, 3, on.Out(filled, {kN}));
  RETURN_IF_ERROR(on.Finish());
  Append(y, outputs);
  Append(filled, outputs);
  return absl::OkStatus();
}

absl::Status TryRows(Stream& stream, Outputs& outputs) {
  constexpr int64_t kRows = 5000, kCols = 24;
  const auto x = Uniform(kRows * kCols, 1);
  std::vector<float> sum(kCols), y(kRows * kCols);
  Mirror on(stream);
  SumRows(stream, on.In(x, {kRows, kCols}), on.Out(sum, {kCols}));
  BroadcastRow(stream, on.Out(sum, {kCols}), on.Out(y, {kRows, kCols}));
  RETURN_IF_ERROR(on.Finish());
  Append(sum, outputs);
  Append(y, outputs);
  return absl::OkStatus();
}

absl::Status TryRowsByIds(Stream& stream, Outputs& outputs) {
  constexpr int64_t kN = 5000, kRows = 300, kWidth = 24;
  const auto dy = Uniform(kN * kWidth, 1);
  std::vector<float> table = Uniform(kRows * kWidth, 2), y(kN * kWidth);
  std::vector<int32_t> ids(kN);
  // A tenth of them is the same.
  for (size_t p = 0; p < ids.size(); ++p) {
    ids[p] = p % 10 == 0 ? 7 : static_cast<int32_t>(p * p % kRows);
  }
  Mirror on(stream);
  const ConstTensor named = on.In(ids, {kN});
  ScatterAddRows(stream, named, on.In(dy, {kN, kWidth}), on.Out(table, {kRows, kWidth}));
  GatherRows(stream, on.Out(table, {kRows, kWidth}), named, on.Out(y, {kN, kWidth}));
  RETURN_IF_ERROR(on.Finish());
  Append(table, outputs);
  Append(y, outputs);
  return absl::OkStatus();
}

absl::Status TryDropout(Stream& stream, Outputs& outputs) {
  constexpr int64_t kN = 7, kFeatures = 333, kChannels = 9;
  const Shape shape{kN, kFeatures}, mask_shape{kN, MaskWords(kFeatures)};
  const auto x = Uniform(kN * kFeatures, 1), dy = Uniform(kN * kFeatures, 2),
             bias = Uniform(kChannels, 3);
  std::vector<float> y(x.size()), dropped(x.size()), dx(x.size());
  std::vector<uint32_t> mask(static_cast<size_t>(mask_shape.size()));
  Mirror on(stream);
  ReluDropout(stream, kDropout, on.In(x, shape), on.Out(y, shape), on.Out(mask, mask_shape),
              {on.In(bias, {kChannels}).data(), kChannels});
  MaskedScale(stream, on.Out(mask, mask_shape), 2, on.In(dy, shape), on.Out(dx, shape));
  Dropout(stream, kDropout, on.In(x, shape), on.Out(dropped, shape));
  RETURN_IF_ERROR(on.Finish());
  Append(y, outputs);
  Append(dropped, outputs);
  Append(dx, outputs);
  for (const uint32_t word : mask) outputs.push_back(word);
  return absl::OkStatus();
}

absl::Status TryPool(Stream& stream, Outputs& outputs) {
  constexpr int64_t kN = 3, kChannels = 64;
  PoolArgs pool{Window::Make({21, 10}, {2, 2}, {2, 2}, Padding::kSame), kChannels, true, kDropout};
  const Window& w = pool.window;
  const Shape in{kN, w.in.h, w.in.w, kChannels}, out{kN, w.out.h, w.out.w, kChannels};
  const auto x = Uniform(in.size(), 1), dy = Uniform(out.size(), 2), bias = Uniform(kChannels, 3);
  std::vector<float> y(dy.size()), dx(x.size());
  std::vector<uint8_t> winners(dy.size());
  Mirror on(stream);
  pool.bias = on.In(bias, {kChannels}).data();
  MaxPool(stream, pool, on.In(x, in), on.Out(y, out), on.Out(winners, out));
  MaxPoolGradient(stream, pool, on.Out(winners, out), on.In(dy, out), on.Out(dx, in));
  RETURN_IF_ERROR(on.Finish());
  Append(y, outputs);
  Append(winners, outputs);
  Append(dx, outputs);
  return absl::OkStatus();
}

absl::Status TrySoftmax(Stream& stream, Outputs& outputs) {
  constexpr int64_t kN = 100, kClasses = 12;
  const auto x = Uniform(kN * kClasses, 1);
  std::vector<int32_t> labels(kN);
  for (size_t i = 0; i < labels.size(); ++i) labels[i] = static_cast<int32_t>(i % kClasses);
  std::vector<float> loss(kN), dx(x.size());
  Mirror on(stream);
  SoftmaxCrossEntropy(stream, on.In(x, {kN, kClasses}), on.In(labels, {kN}), kN, on.Out(loss, {kN}),
                      on.Out(dx, {kN, kClasses}));
  RETURN_IF_ERROR(on.Finish());
  Append(loss, outputs);
  Append(dx, outputs);
  return absl::OkStatus();
}

absl::Status TrySvdf(Stream& stream, Outputs& outputs) {
  constexpr int64_t kFrames = 9, kFeatures = 7, kUnits = 20, kRank = 2;
  const Shape feature{kFeatures, kUnits * kRank}, time{kFrames, kUnits * kRank},
      matrix{kFrames * kFeatures, kUnits};
  const auto f = Uniform(feature.size(), 1), t = Uniform(time.size(), 2),
             dm = Uniform(matrix.size(), 3);
  std::vector<float> m(dm.size()), df(f.size()), dt(t.size());
  Mirror on(stream);
  SvdfExpand(stream, kRank, on.In(f, feature), on.In(t, time), on.Out(m, matrix));
  SvdfContract(stream, kRank, on.In(f, feature), on.In(t, time), on.In(dm, matrix),
               on.Out(df, feature), on.Out(dt, time));
  RETURN_IF_ERROR(on.Finish());
  for (const auto* array : {&m, &df, &dt}) Append(*array, outputs);
  return absl::OkStatus();
}

// Moments are of columns (batch norm), of rows (layer norm).
absl::Status TryNorm(Stream& stream, Outputs& outputs, bool of_rows) {
  constexpr float kEpsilon = 1e-3f;
  constexpr int64_t kRows = 5000, kCols = 24;
  const Shape shape{kRows, kCols}, cols{kCols}, groups{of_rows ? kRows : kCols};
  const auto x = Uniform(shape.size(), 1), dy = Uniform(shape.size(), 2), gain = Uniform(kCols, 3),
             offset = Uniform(kCols, 4);
  std::vector<float> mean(static_cast<size_t>(groups.size())), variance(mean.size());
  std::vector<float> y(x.size()), given(x.size()), dx(x.size()), dgain(kCols), doffset(kCols);
  Mirror on(stream);
  (of_rows ? LayerNorm : BatchNorm)(stream, kEpsilon, on.In(x, shape), on.In(gain, cols),
                                    on.In(offset, cols), on.Out(mean, groups),
                                    on.Out(variance, groups), on.Out(y, shape));
  (of_rows ? LayerNormGradient : BatchNormGradient)(
      stream, kEpsilon, on.In(x, shape), on.In(gain, cols), on.Out(mean, groups),
      on.Out(variance, groups), on.In(dy, shape), on.Out(dgain, cols), on.Out(doffset, cols),
      on.Out(dx, shape));
  if (!of_rows) {
    BatchNormInference(stream, kEpsilon, on.In(x, shape), on.In(gain, cols), on.In(offset, cols),
                       on.Out(mean, groups), on.Out(variance, groups), on.Out(given, shape));
  }
  RETURN_IF_ERROR(on.Finish());
  for (const auto* array : {&mean, &variance, &y, &given, &dx}) Append(*array, outputs);
  // Sums over all rows, beside what is of size 1.
  for (const auto* array : {&dgain, &doffset}) {
    for (const float sum : *array) outputs.push_back(double{sum} / 64);
  }
  return absl::OkStatus();
}

absl::Status TrySounds(Stream& stream, Outputs& outputs) {
  constexpr int64_t kN = 3, kSamples = 1000, kBins = 20, kChannels = 2;
  std::vector<int16_t> clips(kN * kSamples), noise(kSamples);
  for (size_t i = 0; i < clips.size(); ++i) clips[i] = static_cast<int16_t>(i * i * 7919);
  for (size_t i = 0; i < noise.size(); ++i) noise[i] = static_cast<int16_t>(i * i * 104729);
  std::vector<SoundRecord> records(kN);
  for (int64_t s = 0; s < kN; ++s) {
    records[static_cast<size_t>(s)] = {s * kSamples, 0, static_cast<int32_t>(100 * s - 100), 1e-5f};
  }
  const Shape framed{kN, 10, 2 * kBins}, channels{kN * 10, kChannels};
  std::vector<float> frames(static_cast<size_t>(framed.size()));
  std::vector<float> log_mel(static_cast<size_t>(channels.size()));
  const std::vector<int32_t> first = {0, 5}, begin = {0, 10, 25};
  const auto weights = std::vector<float>(25, 0.5f);
  Mirror on(stream);
  SoundArgs sounds{.samples = kSamples, .frames = 10, .window = 2 * kBins, .stride = 33};
  sounds.clips = static_cast<const int16_t*>(on.Bytes(clips));
  sounds.noise = static_cast<const int16_t*>(on.Bytes(noise));
  sounds.records = static_cast<const std::byte*>(on.Bytes(records));
  sounds.record_bytes = sizeof(SoundRecord);
  FrameSounds(stream, sounds, on.Out(frames, framed));
  // As a spectrum the frames will do.
  const MelArgs mel{kBins,
                    kChannels,
                    1e-3f,
                    on.In(first, {2}).data<int32_t>(),
                    on.In(begin, {3}).data<int32_t>(),
                    on.In(weights, {25}).data()};
  LogMel(stream, mel, on.Out(frames, framed).Reshape({kN * 10, 2 * kBins}),
         on.Out(log_mel, channels));
  RETURN_IF_ERROR(on.Finish());
  Append(frames, outputs);
  Append(log_mel, outputs);
  return absl::OkStatus();
}

// Each update once, in place, on the slots that the one before it left.
absl::Status TryUpdates(Stream& stream, Outputs& outputs) {
  constexpr int64_t kN = 1003;
  const auto grad = Uniform(kN, 1);
  std::vector<float> w = Uniform(kN, 2), slot(kN, 0.5f), other(kN, 0.25f), third(kN, 0.125f);
  std::vector<int32_t> found(2);
  std::vector<float> bad = grad;
  bad[kN / 2] = INFINITY;
  Mirror on(stream);
  float* const weights = on.Out(w, {kN}).data();
  float* const a = on.Out(slot, {kN}).data();
  float* const b = on.Out(other, {kN}).data();
  float* const c = on.Out(third, {kN}).data();
  const UpdateInput in{.grad = on.In(grad, {kN}).data(),
                       .w = weights,
                       .w_next = weights,
                       .n = kN,
                       .scale = 0.5f,
                       .decay = 0.01f,
                       .learning_rate = 0.1f,
                       .clip = 0.4f};
  const AdamFactors adam{0.9f, 0.1f, 0.99f, 0.01f, 0.1f, 1.5f, 1e-3f, 0.01f};
  DeviceOps& ops = stream.device().ops();
  ops.SgdUpdate(stream, in);
  ops.MomentumUpdate(stream, in, 0.9f, a);
  ops.NesterovUpdate(stream, in, 0.9f, a);
  ops.AdagradUpdate(stream, in, 1e-3f, b);
  ops.RmspropUpdate(stream, in, {0.9f, 0.1f, 0.5f, 1e-3f}, b, a, c);
  ops.AdamUpdate(stream, in, adam, a, b);
  ops.FtrlUpdate(stream, in, {0.5f, 2, 0.01f, 0.02f}, b, a);
  ops.EmaUpdate(stream, in.grad, weights, weights, kN, 0.5f, 0.1f);
  ops.LambDirection(stream, in, adam, a, b);
  int32_t* const flags = on.Out(found, {2}).data<int32_t>();
  ops.FindNonFinite(stream, kN, in.grad, flags);
  ops.FindNonFinite(stream, kN, on.In(bad, {kN}).data(), flags + 1);
  RETURN_IF_ERROR(on.Finish());
  for (const auto* array : {&w, &slot, &other, &third}) Append(*array, outputs);
  Append(found, outputs);
  return absl::OkStatus();
}

using Codecs = std::vector<std::shared_ptr<const Codec>>;

// Those that the device has code for: the others are the host's.
Codecs CodecsOf(Device& device) {
  Codecs codecs;
  for (const std::string& name : CodecNames()) {
    const auto codec = MakeCodec(name);
    if (!codec.ok() || *codec == nullptr) continue;
    if (device.ops().MakeCodec(**codec) != nullptr) codecs.push_back(*codec);
  }
  return codecs;
}

// Each encodes a gradient and decodes it.
absl::Status TryCodecs(Stream& stream, Outputs& outputs, const Codecs& codecs) {
  constexpr int64_t kN = kQuantum + 1003;
  const auto gradient = Uniform(kN, 1);
  for (const auto& codec : codecs) {
    std::vector<float> residual = Uniform(codec->has_residual() ? kN : 0, 2), decoded(kN);
    std::vector<uint8_t> encoding(codec->EncodedSize(kN));
    const std::unique_ptr<DeviceCodec> here = stream.device().ops().MakeCodec(*codec);
    Mirror on(stream);
    float* const kept = residual.empty() ? nullptr : on.Out(residual, {kN}).data();
    auto* const bytes =
        reinterpret_cast<std::byte*>(on.Out(encoding, {std::ssize(encoding)}).data<uint8_t>());
    here->Encode(stream, kN, on.In(gradient, {kN}).data(), kept, bytes);
    here->Decode(stream, kN, bytes, on.Out(decoded, {kN}).data());
    RETURN_IF_ERROR(on.Finish());
    Append(encoding, outputs);
    Append(residual, outputs);
    Append(decoded, outputs);
  }
  return absl::OkStatus();
}

// The three directions: 0 forward, 1 gradient of the input, 2 gradients of the weights.
absl::Status TryConv2d(Stream& stream, Outputs& outputs, int64_t channels, int direction) {
  constexpr int64_t kN = 4, kOut = 64;
  const Conv2dArgs args{Window::Make({20, 14}, {10, 4}, {1, 1}, Padding::kSame), channels, kOut};
  const Window& w = args.window;
  const Shape in{kN, w.in.h, w.in.w, channels}, out{kN, w.out.h, w.out.w, kOut},
      filter{args.patch(), kOut};
  const auto x = Uniform(in.size(), 1), weights = Uniform(filter.size(), 2),
             bias = Uniform(kOut, 3), dy = Uniform(out.size(), 4);
  std::vector<float> y(dy.size()), dx(x.size()), dw(weights.size()), db(kOut);
  const std::unique_ptr<Conv2dPlan> plan = stream.device().ops().MakeConv2d(args);
  Mirror on(stream);
  if (direction == 0) {
    plan->Forward(stream, kN, on.In(x, in).data(), on.In(weights, filter).data(),
                  on.In(bias, {kOut}).data(), on.Out(y, out).data());
  } else if (direction == 1) {
    plan->BackwardData(stream, kN, on.In(dy, out).data(), on.In(weights, filter).data(),
                       on.Out(dx, in).data());
  } else {
    plan->BackwardWeights(stream, kN, on.In(x, in).data(), on.In(dy, out).data(),
                          on.Out(dw, filter).data(), on.Out(db, {kOut}).data());
  }
  RETURN_IF_ERROR(on.Finish());
  if (direction == 0) Append(y, outputs);
  if (direction == 1) Append(dx, outputs);
  if (direction == 2) Append(dw, outputs), Append(db, outputs);
  return absl::OkStatus();
}

}  // namespace

double ProductTolerance(GpuPrecision precision) {
  switch (precision) {
    case GpuPrecision::kFloat32:
      return 1e-5;
    case GpuPrecision::kTf32:
      return 5e-3;
    case GpuPrecision::kBf16:
      return 4e-2;
  }
  return 0;
}

std::vector<OpCheck> CheckDevice(Device& device, double tolerance) {
  constexpr double kSum = 1e-5;  // float32, in whatever order
  const std::unique_ptr<Device> cpu = MakeCpuDevice(1);
  std::vector<OpCheck> checks;
  const auto check = [&](const char* name, double allowed, const Trial& trial) {
    checks.push_back(Compare(name, *cpu, device, allowed, trial));
  };
  check("matmul", tolerance,
        [](Stream& s, Outputs& o) { return TryMatMul(s, o, false, false, false); });
  check("matmul with bias", tolerance,
        [](Stream& s, Outputs& o) { return TryMatMul(s, o, false, false, true); });
  check("matmul, left transposed", tolerance,
        [](Stream& s, Outputs& o) { return TryMatMul(s, o, true, false, false); });
  check("matmul, right transposed", tolerance,
        [](Stream& s, Outputs& o) { return TryMatMul(s, o, false, true, false); });
  for (const int64_t channels : {1, 64}) {
    const bool one = channels == 1;
    check(one ? "conv2d of 1 channel" : "conv2d of 64 channels", tolerance,
          [&](Stream& s, Outputs& o) { return TryConv2d(s, o, channels, 0); });
    check("  gradient of its input", tolerance,
          [&](Stream& s, Outputs& o) { return TryConv2d(s, o, channels, 1); });
    check("  gradients of its weights", tolerance,
          [&](Stream& s, Outputs& o) { return TryConv2d(s, o, channels, 2); });
  }
  check("fill, axpy", kSum, TryElements);
  check("sum of rows, broadcast", kSum, TryRows);
  check("rows by ids", 0, TryRowsByIds);
  check("relu, dropout, mask", 0, TryDropout);
  check("max pool, gradient", 0, TryPool);
  check("softmax cross entropy", kSum, TrySoftmax);
  check("svdf, gradients", kSum, TrySvdf);
  check("batch norm, gradients", kSum, [](Stream& s, Outputs& o) { return TryNorm(s, o, false); });
  check("layer norm, gradients", kSum, [](Stream& s, Outputs& o) { return TryNorm(s, o, true); });
  check("sounds, mel channels", kSum, TrySounds);
  check("updates of weights", kSum, TryUpdates);
  const Codecs codecs = CodecsOf(device);
  check("codecs of gradients", 0, [&](Stream& s, Outputs& o) { return TryCodecs(s, o, codecs); });
  return checks;
}

}  // namespace muster
