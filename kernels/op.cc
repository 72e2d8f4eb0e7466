#include "kernels/op.h"

#include <fmt/format.h>

#include <limits>
#include <string>

#include "telemetry/check.h"

namespace muster {
namespace {

DeviceOps& Ops(Stream& stream) { return stream.device().ops(); }

int64_t PerSample(const ConstTensor& x) {
  CHECK_GE(x.shape().rank(), 1);
  return x.dim(0) == 0 ? 0 : x.size() / x.dim(0);
}

void CheckSame(const ConstTensor& a, const ConstTensor& b) {
  if (a.shape() == b.shape()) return;
  CheckFailed(__FILE__, __LINE__,
              "shapes " + a.shape().ToString() + " and " + b.shape().ToString() + " differ");
}

template <typename T>
T* OrNull(const Tensor& x) {
  return x.empty() ? nullptr : x.data<T>();
}

void CheckPool(const PoolArgs& pool, const ConstTensor& x, const ConstTensor& y) {
  const Window& w = pool.window;
  CHECK_LT(w.kernel.h * w.kernel.w, kNoWinner);
  CHECK(pool.relu || pool.dropout.rate == 0);
  CHECK(x.shape() == (Shape{x.dim(0), w.in.h, w.in.w, pool.channels}));
  CHECK(y.shape() == (Shape{x.dim(0), w.out.h, w.out.w, pool.channels}));
}

// Of x as rows of `gain`'s size, whose moments are `moments` many.
NormArgs NormOf(float epsilon, const ConstTensor& x, const ConstTensor& gain,
                const ConstTensor& offset, const ConstTensor& mean, const ConstTensor& variance,
                int64_t moments) {
  CHECK_GT(epsilon, 0);
  CHECK_GE(x.size(), 1);
  CHECK_EQ(gain.size(), offset.size());
  CHECK_EQ(mean.size(), moments);
  CHECK_EQ(variance.size(), moments);
  return {x.size() / gain.size(), gain.size(),        epsilon,
          x.data<float>(),        gain.data<float>(), offset.data<float>()};
}

NormArgs BatchNormOf(float epsilon, const ConstTensor& x, const ConstTensor& gain,
                     const ConstTensor& offset, const ConstTensor& mean,
                     const ConstTensor& variance) {
  CHECK_EQ(gain.size(), x.dim(x.shape().rank() - 1));
  return NormOf(epsilon, x, gain, offset, mean, variance, gain.size());
}

NormArgs LayerNormOf(float epsilon, const ConstTensor& x, const ConstTensor& gain,
                     const ConstTensor& offset, const ConstTensor& mean,
                     const ConstTensor& variance) {
  CHECK_EQ(gain.size(), PerSample(x));
  return NormOf(epsilon, x, gain, offset, mean, variance, x.dim(0));
}

RowArgs RowsOf(Stream& stream, const ConstTensor& table, const ConstTensor& ids,
               const ConstTensor& x) {
  CHECK_EQ(ids.shape().rank(), 1);
  const RowArgs args{ids.dim(0), table.dim(0), PerSample(table), ids.data<int32_t>()};
  CHECK_LE(args.rows, std::numeric_limits<int32_t>::max());
  CHECK_EQ(x.dim(0), args.n);
  CHECK_EQ(x.size(), args.n * args.width);
  if (stream.device().host_memory()) {
    const absl::Status named = CheckIds({args.ids, static_cast<size_t>(args.n)}, args.rows);
    if (!named.ok()) CheckFailed(__FILE__, __LINE__, std::string(named.message()));
  }
  return args;
}

template <typename T>
void CopyTo(Stream& stream, std::span<const T> from, const Tensor& to, CopyDirection direction) {
  CHECK_EQ(static_cast<int64_t>(from.size()), to.size());
  Ops(stream).Copy(stream, to.data<T>(), from.data(), from.size_bytes(), direction);
}

}  // namespace

void Copy(Stream& stream, std::span<const float> from, Tensor to) {
  CopyTo<float>(stream, from, to, CopyDirection::kDeviceToDevice);
}

void Copy(Stream& stream, std::span<const int32_t> from, Tensor to) {
  CopyTo<int32_t>(stream, from, to, CopyDirection::kDeviceToDevice);
}

void CopyToDevice(Stream& stream, std::span<const float> from, Tensor to) {
  CopyTo<float>(stream, from, to, CopyDirection::kHostToDevice);
}

absl::Status CopyToHost(Stream& stream, ConstTensor from, std::span<float> to) {
  CHECK_EQ(from.size(), static_cast<int64_t>(to.size()));
  Ops(stream).Copy(stream, to.data(), from.data<float>(), to.size_bytes(),
                   CopyDirection::kDeviceToHost);
  return stream.Synchronize();
}

void Fill(Stream& stream, float value, Tensor x) {
  Ops(stream).Fill(stream, x.size(), value, x.data<float>());
}

void Axpy(Stream& stream, float a, ConstTensor x, Tensor y) {
  CheckSame(x, y);
  Ops(stream).Axpy(stream, x.size(), a, x.data<float>(), y.data<float>());
}

void MatMul(Stream& stream, ConstTensor a, ConstTensor b, Tensor c, MatMulOptions options) {
  CHECK(a.shape().rank() == 2 && b.shape().rank() == 2 && c.shape().rank() == 2);
  GemmArgs args{
      .trans_a = options.trans_a, .trans_b = options.trans_b, .m = c.dim(0), .n = c.dim(1)};
  args.k = options.trans_a ? a.dim(0) : a.dim(1);
  CHECK_EQ(args.m, options.trans_a ? a.dim(1) : a.dim(0));
  CHECK_EQ(args.k, options.trans_b ? b.dim(1) : b.dim(0));
  CHECK_EQ(args.n, options.trans_b ? b.dim(0) : b.dim(1));
  args.alpha = options.alpha;
  args.beta = options.beta;
  args.a = a.data<float>();
  args.lda = a.dim(1);
  args.b = b.data<float>();
  args.ldb = b.dim(1);
  args.c = c.data<float>();
  args.ldc = c.dim(1);
  args.float32 = options.float32;
  if (!options.bias.empty()) {
    CHECK(options.beta == 0);
    CHECK_EQ(options.bias.size(), args.n);
    args.bias = options.bias.data<float>();
  }
  Ops(stream).Gemm(stream, args);
}

void BroadcastRow(Stream& stream, ConstTensor row, Tensor y) {
  CHECK_EQ(row.size(), PerSample(y));
  Ops(stream).BroadcastRow(stream, y.dim(0), row.size(), row.data<float>(), y.data<float>());
}

void SumRows(Stream& stream, ConstTensor x, Tensor sum) {
  CHECK_EQ(sum.size(), PerSample(x));
  Ops(stream).SumRows(stream, x.dim(0), sum.size(), x.data<float>(), sum.data<float>());
}

void GatherRows(Stream& stream, ConstTensor table, ConstTensor ids, Tensor y) {
  Ops(stream).GatherRows(stream, RowsOf(stream, table, ids, y), table.data<float>(),
                         y.data<float>());
}

void ScatterAddRows(Stream& stream, ConstTensor ids, ConstTensor dy, Tensor table) {
  Ops(stream).ScatterAddRows(stream, RowsOf(stream, table, ids, dy), dy.data<float>(),
                             table.data<float>());
}

absl::Status CheckIds(std::span<const int32_t> ids, int64_t rows) {
  for (size_t p = 0; p < ids.size(); ++p) {
    if (ids[p] >= 0 && ids[p] < rows) continue;
    return absl::OutOfRangeError(
        fmt::format("id {} at position {} is no row of a table of {}", ids[p], p, rows));
  }
  return absl::OkStatus();
}

void ReluDropout(Stream& stream, const DropoutArgs& dropout, ConstTensor x, Tensor y, Tensor mask,
                 const ChannelBias& bias) {
  CheckSame(x, y);
  if (bias.values != nullptr) CHECK_EQ(PerSample(x) % bias.channels, 0);
  if (!mask.empty()) CHECK(mask.shape() == (Shape{x.dim(0), MaskWords(PerSample(x))}));
  Ops(stream).ReluDropout(stream, x.dim(0), PerSample(x), dropout, bias, x.data<float>(),
                          y.data<float>(), OrNull<uint32_t>(mask));
}

void MaskedScale(Stream& stream, ConstTensor mask, float scale, ConstTensor dy, Tensor dx) {
  CheckSame(dy, dx);
  CHECK(mask.shape() == (Shape{dy.dim(0), MaskWords(PerSample(dy))}));
  Ops(stream).MaskedScale(stream, dy.dim(0), PerSample(dy), mask.data<uint32_t>(), scale,
                          dy.data<float>(), dx.data<float>());
}

void Dropout(Stream& stream, const DropoutArgs& dropout, ConstTensor x, Tensor y) {
  CheckSame(x, y);
  Ops(stream).Dropout(stream, x.dim(0), PerSample(x), dropout, x.data<float>(), y.data<float>());
}

void MaxPool(Stream& stream, const PoolArgs& pool, ConstTensor x, Tensor y, Tensor winners) {
  CheckPool(pool, x, y);
  if (!winners.empty()) CheckSame(y, winners);
  Ops(stream).MaxPool(stream, x.dim(0), pool, x.data<float>(), y.data<float>(),
                      OrNull<uint8_t>(winners));
}

void MaxPoolGradient(Stream& stream, const PoolArgs& pool, ConstTensor winners, ConstTensor dy,
                     Tensor dx) {
  CheckPool(pool, dx, dy);
  CheckSame(dy, winners);
  Ops(stream).MaxPoolGradient(stream, dx.dim(0), pool, winners.data<uint8_t>(), dy.data<float>(),
                              dx.data<float>());
}

void SoftmaxCrossEntropy(Stream& stream, ConstTensor x, ConstTensor labels, int64_t batch,
                         Tensor loss, Tensor dx) {
  CHECK_EQ(x.shape().rank(), 2);
  CHECK_EQ(labels.size(), x.dim(0));
  CHECK_EQ(loss.size(), x.dim(0));
  CHECK_GE(batch, x.dim(0));
  if (!dx.empty()) CheckSame(x, dx);
  Ops(stream).SoftmaxCrossEntropy(stream, x.dim(0), x.dim(1), batch, x.data<float>(),
                                  labels.data<int32_t>(), loss.data<float>(), OrNull<float>(dx));
}

void SvdfExpand(Stream& stream, int64_t rank, ConstTensor feature, ConstTensor time,
                Tensor matrix) {
  const int64_t units = matrix.dim(1);
  CHECK_EQ(feature.dim(1), units * rank);
  CHECK_EQ(time.dim(1), units * rank);
  CHECK_EQ(matrix.dim(0), time.dim(0) * feature.dim(0));
  Ops(stream).SvdfExpand(stream, time.dim(0), feature.dim(0), units, rank, feature.data<float>(),
                         time.data<float>(), matrix.data<float>());
}

void SvdfContract(Stream& stream, int64_t rank, ConstTensor feature, ConstTensor time,
                  ConstTensor dmatrix, Tensor dfeature, Tensor dtime) {
  const int64_t units = dmatrix.dim(1);
  CheckSame(feature, dfeature);
  CheckSame(time, dtime);
  CHECK_EQ(feature.dim(1), units * rank);
  CHECK_EQ(time.dim(1), units * rank);
  CHECK_EQ(dmatrix.dim(0), time.dim(0) * feature.dim(0));
  Ops(stream).SvdfContract(stream, time.dim(0), feature.dim(0), units, rank, feature.data<float>(),
                           time.data<float>(), dmatrix.data<float>(), dfeature.data<float>(),
                           dtime.data<float>());
}

void BatchNorm(Stream& stream, float epsilon, ConstTensor x, ConstTensor gain, ConstTensor offset,
               Tensor mean, Tensor variance, Tensor y) {
  CheckSame(x, y);
  Ops(stream).BatchNorm(stream, BatchNormOf(epsilon, x, gain, offset, mean, variance),
                        mean.data<float>(), variance.data<float>(), y.data<float>());
}

void BatchNormInference(Stream& stream, float epsilon, ConstTensor x, ConstTensor gain,
                        ConstTensor offset, ConstTensor mean, ConstTensor variance, Tensor y) {
  CheckSame(x, y);
  Ops(stream).BatchNormInference(stream, BatchNormOf(epsilon, x, gain, offset, mean, variance),
                                 mean.data<float>(), variance.data<float>(), y.data<float>());
}

void BatchNormGradient(Stream& stream, float epsilon, ConstTensor x, ConstTensor gain,
                       ConstTensor mean, ConstTensor variance, ConstTensor dy, Tensor dgain,
                       Tensor doffset, Tensor dx) {
  CheckSame(x, dy);
  CHECK_EQ(dgain.size(), gain.size());
  if (!dx.empty()) CheckSame(x, dx);
  Ops(stream).BatchNormGradient(stream, BatchNormOf(epsilon, x, gain, doffset, mean, variance),
                                mean.data<float>(), variance.data<float>(), dy.data<float>(),
                                dgain.data<float>(), doffset.data<float>(), OrNull<float>(dx));
}

void LayerNorm(Stream& stream, float epsilon, ConstTensor x, ConstTensor gain, ConstTensor offset,
               Tensor mean, Tensor variance, Tensor y) {
  CheckSame(x, y);
  Ops(stream).LayerNorm(stream, LayerNormOf(epsilon, x, gain, offset, mean, variance),
                        mean.data<float>(), variance.data<float>(), y.data<float>());
}

void LayerNormGradient(Stream& stream, float epsilon, ConstTensor x, ConstTensor gain,
                       ConstTensor mean, ConstTensor variance, ConstTensor dy, Tensor dgain,
                       Tensor doffset, Tensor dx) {
  CheckSame(x, dy);
  CHECK_EQ(dgain.size(), gain.size());
  if (!dx.empty()) CheckSame(x, dx);
  Ops(stream).LayerNormGradient(stream, LayerNormOf(epsilon, x, gain, doffset, mean, variance),
                                mean.data<float>(), variance.data<float>(), dy.data<float>(),
                                dgain.data<float>(), doffset.data<float>(), OrNull<float>(dx));
}

void FrameSounds(Stream& stream, const SoundArgs& sounds, Tensor frames) {
  CHECK(frames.shape() == (Shape{frames.dim(0), sounds.frames, sounds.window}));
  CHECK_LE((sounds.frames - 1) * sounds.stride + sounds.window, sounds.samples);
  CHECK_EQ(sounds.record_bytes % 16, 0);
  Ops(stream).FrameSounds(stream, frames.dim(0), sounds, frames.data<float>());
}

void LogMel(Stream& stream, const MelArgs& mel, ConstTensor spectrum, Tensor log_mel) {
  CHECK_GT(mel.floor, 0);
  CHECK_EQ(spectrum.dim(1), 2 * mel.bins);
  CHECK(log_mel.shape() == (Shape{spectrum.dim(0), mel.channels}));
  Ops(stream).LogMel(stream, spectrum.dim(0), mel, spectrum.data<float>(), log_mel.data<float>());
}

}  // namespace muster
