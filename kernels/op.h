// Ops on tensors: each checks shapes and types (CHECK: a wrong one is a bug) and calls through the
// table of the stream's device.
//
// Free functions; a stream and its tensors are used by one thread. All tensors lie on the stream's
// device and are float32 unless said otherwise. What each op computes, and where in and out may be
// the same memory, is told at its function in device_ops.h.
#pragma once

#include <span>

#include "kernels/device.h"
#include "kernels/device_ops.h"
#include "kernels/tensor.h"

namespace muster {

// From the memory of the device.
void Copy(Stream& stream, std::span<const float> from, Tensor to);
void Copy(Stream& stream, std::span<const int32_t> from, Tensor to);  // to: int32
// From the host's, which stays as it is until the copy is there.
void CopyToDevice(Stream& stream, std::span<const float> from, Tensor to);
// Returns when the copy is there. Fails when the device does.
absl::Status CopyToHost(Stream& stream, ConstTensor from, std::span<float> to);

void Fill(Stream& stream, float value, Tensor x);
void Axpy(Stream& stream, float a, ConstTensor x, Tensor y);  // y += a x

// c = alpha * op(a) op(b) + beta * c; all of rank 2. With a bias [columns of c], and beta = 0, it
// is added to each row.
struct MatMulOptions {
  bool trans_a = false, trans_b = false;
  float alpha = 1, beta = 0;
  ConstTensor bias = {};
  bool float32 = false;  // as in GemmArgs
};
void MatMul(Stream& stream, ConstTensor a, ConstTensor b, Tensor c, MatMulOptions options = {});

void BroadcastRow(Stream& stream, ConstTensor row, Tensor y);  // row [cols], y [rows, cols]
void SumRows(Stream& stream, ConstTensor x, Tensor sum);       // x [rows, cols], sum [cols]

// table [rows, ...], ids: int32 [n], each in [0, rows), y, dy [n, ...] with the elements of a row.
// Where the host can read them, an id that is no row is a bug that ends the program (CHECK).
void GatherRows(Stream& stream, ConstTensor table, ConstTensor ids, Tensor y);
void ScatterAddRows(Stream& stream, ConstTensor ids, ConstTensor dy, Tensor table);
// For ids that come from outside, on the host, before they are copied to a device. OutOfRange names
// the first that is none of `rows` rows.
absl::Status CheckIds(std::span<const int32_t> ids, int64_t rows);

// x, y, dy, dx [n, ...]; mask: uint32 [n, MaskWords(elements of a sample)] or empty.
void ReluDropout(Stream& stream, const DropoutArgs& dropout, ConstTensor x, Tensor y, Tensor mask,
                 const ChannelBias& bias = {});
void MaskedScale(Stream& stream, ConstTensor mask, float scale, ConstTensor dy, Tensor dx);
void Dropout(Stream& stream, const DropoutArgs& dropout, ConstTensor x, Tensor y);

// x, dx [n, in.h, in.w, channels], y, dy [n, out.h, out.w, channels], winners: uint8 like y, or
// empty.
void MaxPool(Stream& stream, const PoolArgs& pool, ConstTensor x, Tensor y, Tensor winners);
void MaxPoolGradient(Stream& stream, const PoolArgs& pool, ConstTensor winners, ConstTensor dy,
                     Tensor dx);

// x [n, classes], labels: int32 [n], loss [n], dx like x, or empty; the n samples are of a batch of
// `batch`.
void SoftmaxCrossEntropy(Stream& stream, ConstTensor x, ConstTensor labels, int64_t batch,
                         Tensor loss, Tensor dx);

// feature [features, units * rank], time [frames, units * rank], matrix [frames * features, units].
void SvdfExpand(Stream& stream, int64_t rank, ConstTensor feature, ConstTensor time, Tensor matrix);
void SvdfContract(Stream& stream, int64_t rank, ConstTensor feature, ConstTensor time,
                  ConstTensor dmatrix, Tensor dfeature, Tensor dtime);

// x, y, dy, dx [..., channels], the same shape; everything else [channels]. dx may be empty.
void BatchNorm(Stream& stream, float epsilon, ConstTensor x, ConstTensor gain, ConstTensor offset,
               Tensor mean, Tensor variance, Tensor y);
void BatchNormInference(Stream& stream, float epsilon, ConstTensor x, ConstTensor gain,
                        ConstTensor offset, ConstTensor mean, ConstTensor variance, Tensor y);
void BatchNormGradient(Stream& stream, float epsilon, ConstTensor x, ConstTensor gain,
                       ConstTensor mean, ConstTensor variance, ConstTensor dy, Tensor dgain,
                       Tensor doffset, Tensor dx);
// x, y, dy, dx [n, ...], the same shape; mean, variance [n]; gain, offset, and their gradients, of
// a sample's elements. dx may be empty.
void LayerNorm(Stream& stream, float epsilon, ConstTensor x, ConstTensor gain, ConstTensor offset,
               Tensor mean, Tensor variance, Tensor y);
void LayerNormGradient(Stream& stream, float epsilon, ConstTensor x, ConstTensor gain,
                       ConstTensor mean, ConstTensor variance, ConstTensor dy, Tensor dgain,
                       Tensor doffset, Tensor dx);

// frames [n, sounds.frames, sounds.window].
void FrameSounds(Stream& stream, const SoundArgs& sounds, Tensor frames);
// spectrum [rows, 2 * bins], log_mel [rows, channels].
void LogMel(Stream& stream, const MelArgs& mel, ConstTensor spectrum, Tensor log_mel);

}  // namespace muster
