// KernelOps: the ops of a GPU that are kernels of our own, over whatever launches them.
//
// A Launcher has
//   template <class Kernel> void Launch(Stream&, int64_t n, const Kernel&);  // kernel(0 .. n - 1)
//   float* Scratch(Stream&, int64_t n);  // n elements, until the stream's next op asks for some
//   int64_t SortScratch(Stream&, int64_t n);  // elements that a sort of n pairs needs
//   void SortPairs(Stream&, …);  // as sort.h
// so that the tests run this table on the host. What libraries compute is a subclass's. See
// device_ops.h for what each op does. Thread-safe when the launcher is.
#pragma once

#include <algorithm>
#include <bit>
#include <utility>

#include "kernels/cuda/codec_half_kernels.h"
#include "kernels/cuda/codec_ops.h"
#include "kernels/cuda/conv_kernels.h"
#include "kernels/cuda/dropout_kernels.h"
#include "kernels/cuda/element_kernels.h"
#include "kernels/cuda/embedding_kernels.h"
#include "kernels/cuda/norm_kernels.h"
#include "kernels/cuda/optimizer_kernels.h"
#include "kernels/cuda/patch_kernels.h"
#include "kernels/cuda/pool_kernels.h"
#include "kernels/cuda/softmax_kernels.h"
#include "kernels/cuda/sound_kernels.h"
#include "kernels/cuda/svdf_kernels.h"
#include "kernels/device_ops.h"
#include "telemetry/check.h"

namespace muster::gpu {

template <class Launcher>
class KernelOps : public DeviceOps {
 public:
  explicit KernelOps(Launcher launcher) : launcher_(std::move(launcher)) {}

  void Fill(Stream& stream, int64_t n, float value, float* x) override {
    Run(stream, CeilDiv(n, 4), FillKernel{n, value, x});
  }

  void Store(Stream& stream, int64_t value, int64_t* to) override {
    Run(stream, 1, StoreKernel{value, to});
  }

  void Axpy(Stream& stream, int64_t n, float a, const float* x, float* y) override {
    CHECK(ByFours(4, x, y));
    Run(stream, CeilDiv(n, 4), AxpyKernel{n, a, x, y});
  }

  void BroadcastRow(Stream& stream, int64_t rows, int64_t cols, const float* row,
                    float* y) override {
    Run(stream, rows * cols, BroadcastRowKernel{cols, row, y});
  }

  // y[i] += row for each i.
  void AddRow(Stream& stream, int64_t rows, int64_t cols, const float* row, float* y) {
    RunByWidth(stream, rows * cols, ByFours(cols, row, y), [&]<int kWidth>() {
      return AddRowKernel<kWidth>{cols, row, y};
    });
  }

  void SumRows(Stream& stream, int64_t rows, int64_t cols, const float* x, float* sum) override {
    const int64_t needed = SumScratch(rows, cols);
    SumInto(stream, rows, cols, x, sum, needed > 0 ? launcher_.Scratch(stream, needed) : nullptr);
  }

  void GatherRows(Stream& stream, const RowArgs& args, const float* table, float* y) override {
    RunByWidth(stream, args.n * args.width, ByFours(args.width, table, y), [&]<int kWidth>() {
      return GatherRowsKernel<kWidth>{args.width, args.ids, table, y};
    });
  }

  void ScatterAddRows(Stream& stream, const RowArgs& args, const float* dy, float* table) override {
    if (args.n == 0) return;
    const int64_t size = Aligned(args.n), of_sort = launcher_.SortScratch(stream, args.n);
    float* const scratch = launcher_.Scratch(stream, 3 * size + of_sort);
    if (scratch == nullptr) return;
    auto* const ids = reinterpret_cast<int32_t*>(scratch);
    int32_t *const positions = ids + size, *const unsorted = positions + size;
    Run(stream, args.n, PositionsKernel{unsorted});
    launcher_.SortPairs(stream, args.n, BitsOfIds(args.rows), args.ids, ids, unsorted, positions,
                        scratch + 3 * size, of_sort);
    RunByWidth(stream, args.n * args.width, ByFours(args.width, dy, table), [&]<int kWidth>() {
      return ScatterAddRowsKernel<kWidth>{args.n, args.width, ids, positions, dy, table};
    });
  }

  void ReluDropout(Stream& stream, int64_t n, int64_t features, const DropoutArgs& dropout,
                   const ChannelBias& bias, const float* x, float* y, uint32_t* mask) override {
    Run(stream, Eight::Count(n, features),
        ReluDropoutKernel{features, ByFours(features, x, y), Keep::Of(dropout), bias.values,
                          static_cast<int>(bias.channels), x, y, reinterpret_cast<uint8_t*>(mask)});
  }

  void MaskedScale(Stream& stream, int64_t n, int64_t features, const uint32_t* mask, float scale,
                   const float* dy, float* dx) override {
    Run(stream, Eight::Count(n, features),
        MaskedScaleKernel{features, ByFours(features, dy, dx), scale,
                          reinterpret_cast<const uint8_t*>(mask), dy, dx});
  }

  void Dropout(Stream& stream, int64_t n, int64_t features, const DropoutArgs& dropout,
               const float* x, float* y) override {
    Run(stream, Eight::Count(n, features),
        DropoutKernel{features, ByFours(features, x, y), Keep::Of(dropout), x, y});
  }

  void MaxPool(Stream& stream, int64_t n, const PoolArgs& pool, const float* x, float* y,
               uint8_t* winners) override {
    const int64_t outputs = n * pool.window.out.h * pool.window.out.w * pool.channels;
    const bool aligned = winners == nullptr || reinterpret_cast<uintptr_t>(winners) % 4 == 0;
    const bool fours = ByFours(pool.channels, x, y, pool.bias) && aligned;
    RunByWidth(stream, outputs, fours, [&]<int kWidth>() {
      return MaxPoolKernel<kWidth>{Window32::Of(pool.window),
                                   static_cast<int>(pool.channels),
                                   pool.relu,
                                   Keep::Of(pool.dropout),
                                   pool.bias,
                                   x,
                                   y,
                                   winners};
    });
  }

  void MaxPoolGradient(Stream& stream, int64_t n, const PoolArgs& pool, const uint8_t* winners,
                       const float* dy, float* dx) override {
    const int64_t inputs = n * pool.window.in.h * pool.window.in.w * pool.channels;
    const bool aligned = reinterpret_cast<uintptr_t>(winners) % 4 == 0;
    RunByWidth(stream, inputs, ByFours(pool.channels, dy, dx) && aligned, [&]<int kWidth>() {
      return MaxPoolGradientKernel<kWidth>{Window32::Of(pool.window),
                                           static_cast<int>(pool.channels),
                                           pool.dropout.scale(),
                                           winners,
                                           dy,
                                           dx};
    });
  }

  void SoftmaxCrossEntropy(Stream& stream, int64_t n, int64_t classes, int64_t batch,
                           const float* x, const int32_t* label, float* loss, float* dx) override {
    Run(stream, n, SoftmaxCrossEntropyKernel{classes, batch, x, label, loss, dx});
  }

  void SvdfExpand(Stream& stream, int64_t frames, int64_t features, int64_t units, int64_t rank,
                  const float* feature, const float* time, float* matrix) override {
    Run(stream, frames * features * units,
        SvdfExpandKernel{SvdfOf(frames, features, units, rank), feature, time, matrix});
  }

  void SvdfContract(Stream& stream, int64_t frames, int64_t features, int64_t units, int64_t rank,
                    const float* feature, const float* time, const float* dmatrix, float* dfeature,
                    float* dtime) override {
    const SvdfArgs args = SvdfOf(frames, features, units, rank);
    Run(stream, features * units * rank, SvdfFeatureGradientKernel{args, time, dmatrix, dfeature});
    Run(stream, frames * units * rank, SvdfTimeGradientKernel{args, feature, dmatrix, dtime});
  }

  void BatchNorm(Stream& stream, const NormArgs& args, float* mean, float* variance,
                 float* y) override {
    const int64_t chunks = CeilDiv(args.rows, kSumChunk);
    auto* const partial = MomentsScratch(stream, chunks, args.cols);
    RunByWidth(stream, chunks * args.cols, ByFours(args.cols, args.x), [&]<int kWidth>() {
      return ColumnMomentsKernel<kWidth>{args, partial};
    });
    MergeMoments(stream, chunks, args.cols, partial, mean, variance);
    BatchNormInference(stream, args, mean, variance, y);
  }

  void BatchNormInference(Stream& stream, const NormArgs& args, const float* mean,
                          const float* variance, float* y) override {
    const bool fours = ByFours(args.cols, args.x, args.gain, args.offset, mean, variance, y);
    RunByWidth(stream, CeilDiv(args.rows, kNormRows) * args.cols, fours, [&]<int kWidth>() {
      return NormalizeColumnsKernel<kWidth>{args, mean, variance, y};
    });
  }

  void BatchNormGradient(Stream& stream, const NormArgs& args, const float* mean,
                         const float* variance, const float* dy, float* dgain, float* doffset,
                         float* dx) override {
    GainGradient<false>(stream, args, mean, variance, dy, dgain, doffset);
    if (dx == nullptr) return;
    const bool fours =
        ByFours(args.cols, args.x, args.gain, mean, variance, dy, dgain, doffset, dx);
    RunByWidth(stream, CeilDiv(args.rows, kNormRows) * args.cols, fours, [&]<int kWidth>() {
      return ColumnGradientKernel<kWidth>{args, mean, variance, dy, dgain, doffset, dx};
    });
  }

  void LayerNorm(Stream& stream, const NormArgs& args, float* mean, float* variance,
                 float* y) override {
    const int64_t lanes = CeilDiv(args.cols, kSumChunk);
    auto* const partial = MomentsScratch(stream, lanes, args.rows);
    if (ByFours(args.cols, args.x)) {
      Run(stream, args.rows * lanes, RowMomentsKernel<4>{args, lanes, partial});
    } else {
      Run(stream, args.rows * lanes, RowMomentsKernel<1>{args, lanes, partial});
    }
    MergeMoments(stream, lanes, args.rows, partial, mean, variance);
    RunByWidth(stream, args.rows * args.cols, ByFours(args.cols, args.x, args.gain, args.offset, y),
               [&]<int kWidth>() {
                 return NormalizeRowsKernel<kWidth>{args, mean, variance, y};
               });
  }

  void LayerNormGradient(Stream& stream, const NormArgs& args, const float* mean,
                         const float* variance, const float* dy, float* dgain, float* doffset,
                         float* dx) override {
    GainGradient<true>(stream, args, mean, variance, dy, dgain, doffset);
    if (dx == nullptr) return;
    const int64_t lanes = CeilDiv(args.cols, kSumChunk), size = Aligned(lanes * args.rows);
    const int64_t row = Aligned(args.rows);
    float* const sums =
        launcher_.Scratch(stream, 2 * size + 2 * row + SumScratch(lanes, args.rows));
    float *const sums_z = sums + size, *const sum = sums_z + size, *const sum_z = sum + row;
    if (ByFours(args.cols, args.x, args.gain, dy)) {
      Run(stream, args.rows * lanes,
          RowSumsKernel<4>{args, lanes, mean, variance, dy, sums, sums_z});
    } else {
      Run(stream, args.rows * lanes,
          RowSumsKernel<1>{args, lanes, mean, variance, dy, sums, sums_z});
    }
    SumInto(stream, lanes, args.rows, sums, sum, sum_z + row);
    SumInto(stream, lanes, args.rows, sums_z, sum_z, sum_z + row);
    RunByWidth(stream, args.rows * args.cols, ByFours(args.cols, args.x, args.gain, dy, dx),
               [&]<int kWidth>() {
                 return RowGradientKernel<kWidth>{args, mean, variance, dy, sum, sum_z, dx};
               });
  }

  void FrameSounds(Stream& stream, int64_t n, const SoundArgs& sounds, float* frames) override {
    RunByWidth(stream, n * sounds.frames * sounds.window, ByFours(sounds.window, frames),
               [&]<int kWidth>() {
                 return FrameSoundsKernel<kWidth>{sounds, frames};
               });
  }

  void LogMel(Stream& stream, int64_t rows, const MelArgs& mel, const float* spectrum,
              float* log_mel) override {
    Run(stream, rows * mel.channels, LogMelKernel{mel, spectrum, log_mel});
  }

  void SgdUpdate(Stream& stream, const UpdateInput& in) override {
    RunUpdate(stream, SgdKernel(in));
  }
  void MomentumUpdate(Stream& stream, const UpdateInput& in, float mu, float* momentum) override {
    RunUpdate(stream, MomentumKernel(in, mu, momentum));
  }
  void NesterovUpdate(Stream& stream, const UpdateInput& in, float mu, float* momentum) override {
    RunUpdate(stream, NesterovKernel(in, mu, momentum));
  }
  void AdagradUpdate(Stream& stream, const UpdateInput& in, float epsilon,
                     float* accumulator) override {
    RunUpdate(stream, AdagradKernel(in, epsilon, accumulator));
  }
  void RmspropUpdate(Stream& stream, const UpdateInput& in, const RmspropFactors& factors,
                     float* square, float* velocity, float* mean) override {
    RunUpdate(stream, RmspropKernel(in, factors, square, velocity, mean));
  }
  void AdamUpdate(Stream& stream, const UpdateInput& in, const AdamFactors& factors, float* m,
                  float* v) override {
    RunUpdate(stream, AdamKernel(in, factors, m, v));
  }
  void LambDirection(Stream& stream, const UpdateInput& in, const AdamFactors& factors, float* m,
                     float* v) override {
    RunUpdate(stream, LambDirectionKernel(in, factors, m, v));
  }
  void FtrlUpdate(Stream& stream, const UpdateInput& in, const FtrlFactors& factors,
                  float* accumulator, float* linear) override {
    RunUpdate(stream, FtrlKernel(in, factors, accumulator, linear));
  }
  void EmaUpdate(Stream& stream, const float* sum, const float* w, float* w_next, int64_t n,
                 float mean_scale, float rate) override {
    RunUpdate(stream, EmaKernel(sum, w, w_next, n, mean_scale, rate));
  }
  void FindNonFinite(Stream& stream, int64_t n, const float* x, int32_t* found) override {
    CHECK(ByFours(4, x));
    Run(stream, CeilDiv(n, 4), NonFiniteKernel{n, x, found});
  }

  std::unique_ptr<DeviceCodec> MakeCodec(const Codec& codec) override {
    return MakeKernelCodec(*this, codec);
  }

  // outer [n, outer_h, outer_w, channels] = the images x [n, h, w, channels] with zeros around
  // them, and back.
  void Pad(Stream& stream, int64_t n, const Frame& frame, const float* x, float* outer) {
    const int64_t size = n * frame.outer_h * frame.outer_w * frame.channels;
    RunByWidth(stream, size, ByFours(frame.channels, x, outer), [&]<int kWidth>() {
      return PadKernel<kWidth>{frame, x, outer};
    });
  }
  void Crop(Stream& stream, int64_t n, const Frame& frame, const float* outer, float* x) {
    const int64_t size = n * frame.h * frame.w * frame.channels;
    RunByWidth(stream, size, ByFours(frame.channels, x, outer), [&]<int kWidth>() {
      return CropKernel<kWidth>{frame, outer, x};
    });
  }

  // The patches of n images (patch_kernels.h), and the gradient of the images from that of theirs.
  void Patches(Stream& stream, int64_t n, const Conv2dArgs& args, const float* x, float* patches) {
    Run(stream, n * args.window.out.h * args.window.out.w * args.patch(),
        PatchKernel{Window32::Of(args.window), static_cast<int>(args.in_channels), x, patches});
  }
  void PatchGradient(Stream& stream, int64_t n, const Conv2dArgs& args, const float* dpatches,
                     float* dx) {
    Run(stream, n * args.window.in.h * args.window.in.w * args.in_channels,
        PatchGradientKernel{Window32::Of(args.window), static_cast<int>(args.in_channels), dpatches,
                            dx});
  }

  // bf16[i] = x[i] rounded to the nearest bfloat16, ties to even; and back, which is exact.
  // PRECONDITION: x is aligned to 16 bytes, bf16 to 8.
  void RoundToBf16(Stream& stream, int64_t n, const float* x, uint16_t* bf16) {
    CHECK(ByFours(4, x));
    Run(stream, CeilDiv(n, 4), HalfEncodeKernel<Bf16Format>{n, x, bf16});
  }
  void WidenBf16(Stream& stream, int64_t n, const uint16_t* bf16, float* x) {
    CHECK(ByFours(4, x));
    Run(stream, CeilDiv(n, 4), HalfDecodeKernel<Bf16Format>{n, bf16, x});
  }

  // y [cols, rows] = the transpose of x [rows, cols].
  void Transpose(Stream& stream, int64_t rows, int64_t cols, const float* x, float* y) {
    Run(stream, rows * cols, TransposeKernel{static_cast<int>(rows), static_cast<int>(cols), x, y});
  }

  // kernel(0 .. n - 1).
  template <class Kernel>
  void Run(Stream& stream, int64_t n, const Kernel& kernel) {
    CHECK_LT(n, int64_t{1} << 31);
    if (n > 0) launcher_.Launch(stream, n, kernel);
  }
  // As the launcher's.
  float* Scratch(Stream& stream, int64_t n) { return launcher_.Scratch(stream, n); }

 private:
  // The kernel that `make` gives for four elements an index where `fours` says so, else for one.
  template <class Make>
  void RunByWidth(Stream& stream, int64_t elements, bool fours, const Make& make) {
    if (fours) {
      Run(stream, elements / 4, make.template operator()<4>());
    } else {
      Run(stream, elements, make.template operator()<1>());
    }
  }

  template <class Rule>
  void RunUpdate(Stream& stream, const UpdateKernel<Rule>& kernel) {
    const UpdateInput& in = kernel.in;
    CHECK(ByFours(4, in.grad, in.w, in.w_next, kernel.slots[0], kernel.slots[1], kernel.slots[2]));
    Run(stream, CeilDiv(in.n, 4), kernel);
  }

  void SumChunks(Stream& stream, int64_t rows, int64_t cols, const float* x, float* to) {
    const int64_t sums = CeilDiv(rows, kSumChunk) * cols;
    RunByWidth(stream, sums, ByFours(cols, x, to), [&]<int kWidth>() {
      return SumChunksKernel<kWidth>{rows, cols, x, to};
    });
  }

  // At least one.
  static int BitsOfIds(int64_t rows) {
    return std::bit_width(static_cast<uint64_t>(std::max<int64_t>(rows - 1, 1)));
  }

  static int64_t Aligned(int64_t elements) { return CeilDiv(elements, 4) * 4; }

  // Elements that SumInto needs: each pass writes behind what the one before wrote.
  static int64_t SumScratch(int64_t rows, int64_t cols) {
    int64_t needed = 0;
    while (rows > kSumChunk) needed += Aligned((rows = CeilDiv(rows, kSumChunk)) * cols);
    return needed;
  }
  // sum [cols] = the sum of x's rows. PRECONDITION: `scratch` is aligned to 16 bytes.
  void SumInto(Stream& stream, int64_t rows, int64_t cols, const float* x, float* sum,
               float* scratch) {
    while (rows > kSumChunk) {
      const int64_t chunks = CeilDiv(rows, kSumChunk);
      SumChunks(stream, rows, cols, x, scratch);
      x = scratch;
      rows = chunks;
      scratch += Aligned(chunks * cols);
    }
    SumChunks(stream, rows, cols, x, sum);
  }

  // Room for partial moments [rows, cols], and for what MergeMoments makes of them.
  Moments* MomentsScratch(Stream& stream, int64_t rows, int64_t cols) {
    static_assert(sizeof(Moments) == 4 * sizeof(float));
    return reinterpret_cast<Moments*>(
        launcher_.Scratch(stream, 4 * rows * cols + SumScratch(rows, 4 * cols)));
  }
  // The moments of all rows of `partial` [rows, cols], as means and variances [cols].
  void MergeMoments(Stream& stream, int64_t rows, int64_t cols, Moments* partial, float* mean,
                    float* variance) {
    while (rows > kSumChunk) {
      const int64_t chunks = CeilDiv(rows, kSumChunk);
      Moments* const to = partial + rows * cols;
      Run(stream, chunks * cols,
          MergeMomentsKernel<false>{rows, cols, partial, to, nullptr, nullptr});
      partial = to;
      rows = chunks;
    }
    Run(stream, cols, MergeMomentsKernel<true>{rows, cols, partial, nullptr, mean, variance});
  }

  // The gradients of gain and offset. kOfRows: the moments are the rows'.
  template <bool kOfRows>
  void GainGradient(Stream& stream, const NormArgs& args, const float* mean, const float* variance,
                    const float* dy, float* dgain, float* doffset) {
    const int64_t chunks = CeilDiv(args.rows, kSumChunk), size = Aligned(chunks * args.cols);
    float* const gains = launcher_.Scratch(stream, 2 * size + SumScratch(chunks, args.cols));
    float *const offsets = gains + size, *const scratch = offsets + size;
    const bool fours = ByFours(args.cols, args.x, dy) && (kOfRows || ByFours(4, mean, variance));
    RunByWidth(stream, chunks * args.cols, fours, [&]<int kWidth>() {
      return GainGradientKernel<kWidth, kOfRows>{args, mean, variance, dy, gains, offsets};
    });
    SumInto(stream, chunks, args.cols, gains, dgain, scratch);
    SumInto(stream, chunks, args.cols, offsets, doffset, scratch);
  }

  static SvdfArgs SvdfOf(int64_t frames, int64_t features, int64_t units, int64_t rank) {
    return {static_cast<int>(frames), static_cast<int>(features), static_cast<int>(units),
            static_cast<int>(rank)};
  }

  Launcher launcher_;
};

}  // namespace muster::gpu
