// DeviceOps: the table of functions by which a Device computes. op.h checks shapes and calls
// through it; a plug-in for another kind of device supplies another table.
//
// Thread-safe, but a Conv2dPlan is used by one thread at a time. Every function enqueues on
// `stream` and returns; on cpu it is done when it returns. Pointers are to memory of the stream's
// device, float32, dense and row-major unless said otherwise; in and out may be the same memory
// only where a comment says so. All are deterministic: the same bits for the same arguments on the
// same device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/codec.h"
#include "kernels/optimizer_math.h"
#include "kernels/philox.h"
#include "kernels/sound.h"
#include "kernels/stream.h"
#include "kernels/window.h"

namespace muster {

enum class CopyDirection { kHostToDevice, kDeviceToHost, kDeviceToDevice };

// C = alpha * op(A) * op(B) + beta * C, with op(A) [m, k], op(B) [k, n], C [m, n]; op is the
// transpose where trans_ says so. ld_ is the distance between rows as stored. beta = 0 does not
// read C. With a bias [n], which each row of C begins with, beta is 0 and ldc is n.
struct GemmArgs {
  bool trans_a = false, trans_b = false;
  int64_t m = 0, n = 0, k = 0;
  float alpha = 1;
  const float* a = nullptr;
  int64_t lda = 0;
  const float* b = nullptr;
  int64_t ldb = 0;
  float beta = 0;
  float* c = nullptr;
  int64_t ldc = 0;
  const float* bias = nullptr;
  bool float32 = false;  // on a device that rounds factors (GpuPrecision), too
};

// Dropout: element e of sample s is dropped, or kept and multiplied by 1 / keep probability, as a
// function of (key, step, first_sample + s, e) alone: a device that computes a share of a batch
// drops what one that computes all of it does. The keep probability is a multiple of 1/256, so the
// product's mean is exact. Rate 0 keeps everything.
struct DropoutArgs {
  PhiloxKey key;
  int64_t step = 0;
  float rate = 0;
  int64_t first_sample = 0;
  // In the device's memory: where it is set, what lies there when the op runs is the step, so that
  // a graph (stream.h) can be of any.
  const int64_t* step_at = nullptr;

  int keep_of_256() const;  // 256: keep everything
  float scale() const { return 256.0f / static_cast<float>(keep_of_256()); }
};

// What an activation adds to its input first: values[e % channels] to element e of a sample; null:
// nothing. A convolution of which the bias would take a pass of its own leaves it out.
struct ChannelBias {
  const float* values = nullptr;
  int64_t channels = 0;
};

// Images are [samples, h, w, channels].
struct PoolArgs {
  Window window;
  int64_t channels = 0;
  bool relu = false;            // pool max(x, 0) instead of x
  DropoutArgs dropout;          // of what is pooled, after the relu; only with relu
  const float* bias = nullptr;  // [channels], in the device's memory: added to x first, or null
};
inline constexpr uint8_t kNoWinner =
    255;  // in a pool's winners: the maximum is the relu's 0, no gradient goes back

struct Conv2dArgs {
  Window window;
  int64_t in_channels = 0;
  int64_t out_channels = 0;
  int64_t patch() const { return window.kernel.h * window.kernel.w * in_channels; }
};

// A norm of x [rows, cols]: y = gain (x - mean) / sqrt(variance + epsilon) + offset, where mean and
// variance = Σ (x - mean)² / count are the columns' or the rows'. The variance is computed like
// this, not as E[x²] - mean², the difference of large numbers.
struct NormArgs {
  int64_t rows = 0, cols = 0;  // each >= 1
  float epsilon = 0;           // > 0
  const float* x = nullptr;
  const float* gain = nullptr;    // [cols]
  const float* offset = nullptr;  // [cols]; not for gradients
};

// Rows of a table [rows, width], named by ids [n]: those of a data set, so the host looks at them
// before they go to a device (CheckIds in op.h), where nobody does.
struct RowArgs {
  int64_t n = 0, rows = 0, width = 0;
  const int32_t* ids = nullptr;  // each in [0, rows)
};

// A convolution prepared for its shapes: x [n, in.h, in.w, in_channels], w [kernel.h, kernel.w,
// in_channels, out_channels], y [n, out.h, out.w, out_channels]. A null bias is zeros, a null dbias
// is not wanted. Owned by one thread; holds its scratch memory.
class Conv2dPlan {
 public:
  virtual ~Conv2dPlan() = default;
  // y[i, j, o] = bias[o] + sum over (a, b, c) of x[i * stride + a - pad, j * stride + b - pad, c] *
  // w[a, b, c, o]
  virtual void Forward(Stream& stream, int64_t n, const float* x, const float* w, const float* bias,
                       float* y) = 0;
  // Whether the bias takes a pass over y: an activation that follows had better add it.
  virtual bool adds_bias_apart() const { return false; }
  virtual void BackwardData(Stream& stream, int64_t n, const float* dy, const float* w,
                            float* dx) = 0;
  virtual void BackwardWeights(Stream& stream, int64_t n, const float* x, const float* dy,
                               float* dw, float* dbias) = 0;
};

// A codec on a device: Codec's functions of these names (kernels/codec.h), over whole arrays and
// encodings, each in the device's memory and aligned to 16 bytes. To the CPU's bytes, values and
// residual. What holds for DeviceOps' functions holds for these.
class DeviceCodec {
 public:
  virtual ~DeviceCodec() = default;
  // `residual` is null without has_residual.
  virtual void Encode(Stream& stream, int64_t n, const float* gradient, float* residual,
                      std::byte* out) = 0;
  virtual void Decode(Stream& stream, int64_t n, const std::byte* encoded, float* out) = 0;
};

class DeviceOps {
 public:
  virtual ~DeviceOps() = default;

  virtual void Copy(Stream& stream, void* to, const void* from, size_t bytes,
                    CopyDirection direction) = 0;
  virtual void Fill(Stream& stream, int64_t n, float value, float* x) = 0;
  virtual void Store(Stream& stream, int64_t value, int64_t* to) = 0;
  virtual void Axpy(Stream& stream, int64_t n, float a, const float* x, float* y) = 0;  // y += a x
  virtual void Gemm(Stream& stream, const GemmArgs& args) = 0;
  virtual void BroadcastRow(Stream& stream, int64_t rows, int64_t cols, const float* row,
                            float* y) = 0;  // y[i] = row for each i
  virtual void SumRows(Stream& stream, int64_t rows, int64_t cols, const float* x, float* sum) = 0;

  // y [n, width]: y[p] = table[ids[p]].
  virtual void GatherRows(Stream& stream, const RowArgs& args, const float* table, float* y) = 0;
  // table[r] = (table[r] + dy[p1]) + dy[p2] + …, p1 < p2 < … the p with ids[p] = r, dy [n, width]:
  // what a loop over positions gives, bit for bit, on every device.
  virtual void ScatterAddRows(Stream& stream, const RowArgs& args, const float* dy,
                              float* table) = 0;

  // y = dropout(max(x + bias, 0)); y may be x. mask (may be null): bit e % 32 of mask[s, e / 32]
  // tells y[s, e] != 0, [n, MaskWords(features)].
  virtual void ReluDropout(Stream& stream, int64_t n, int64_t features, const DropoutArgs& dropout,
                           const ChannelBias& bias, const float* x, float* y, uint32_t* mask) = 0;
  // dx[s, e] = scale * dy[s, e] where the mask's bit is set, else 0; dx may be dy.
  virtual void MaskedScale(Stream& stream, int64_t n, int64_t features, const uint32_t* mask,
                           float scale, const float* dy, float* dx) = 0;
  // y = dropout(x); y may be x. It is its own gradient.
  virtual void Dropout(Stream& stream, int64_t n, int64_t features, const DropoutArgs& dropout,
                       const float* x, float* y) = 0;

  // y [n, out.h, out.w, channels] = the windows' maxima, winners (same shape, may be null) their
  // places a * kernel.w + b, the first of equals, or kNoWinner. PRECONDITION: fewer than 255 pixels
  // in a window.
  virtual void MaxPool(Stream& stream, int64_t n, const PoolArgs& pool, const float* x, float* y,
                       uint8_t* winners) = 0;
  virtual void MaxPoolGradient(Stream& stream, int64_t n, const PoolArgs& pool,
                               const uint8_t* winners, const float* dy, float* dx) = 0;

  // loss[s] = log(sum_c exp(x[s, c])) - x[s, label[s]]; dx[s, c] = (softmax(x)[s, c] - [c =
  // label[s]]) / batch; dx may be x, and may be null.
  virtual void SoftmaxCrossEntropy(Stream& stream, int64_t n, int64_t classes, int64_t batch,
                                   const float* x, const int32_t* label, float* loss,
                                   float* dx) = 0;

  // The matrix that rank-constrained filters stand for: matrix[t, i, u] = sum_r feature[i, u * rank
  // + r] * time[t, u * rank + r], with feature [features, units * rank], time [frames, units *
  // rank], matrix [frames * features, units].
  virtual void SvdfExpand(Stream& stream, int64_t frames, int64_t features, int64_t units,
                          int64_t rank, const float* feature, const float* time, float* matrix) = 0;
  // Its gradients: dfeature[i, f] = sum_t dmatrix[t, i, f / rank] * time[t, f], dtime[t, f] = sum_i
  // dmatrix[t, i, f / rank] * feature[i, f].
  virtual void SvdfContract(Stream& stream, int64_t frames, int64_t features, int64_t units,
                            int64_t rank, const float* feature, const float* time,
                            const float* dmatrix, float* dfeature, float* dtime) = 0;

  // Batch norm: normalises columns by their own mean and variance [cols], which it writes. Source:
  // Ioffe, Szegedy: "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
  // Covariate Shift", ICML 2015.
  virtual void BatchNorm(Stream& stream, const NormArgs& args, float* mean, float* variance,
                         float* y) = 0;
  // The same by a given mean and variance; y may be x.
  virtual void BatchNormInference(Stream& stream, const NormArgs& args, const float* mean,
                                  const float* variance, float* y) = 0;
  // With z = (x - mean) / sqrt(variance + epsilon), sums and means over rows, and the mean and
  // variance of BatchNorm:
  //   dgain = Σ dy z   doffset = Σ dy
  //   dx = gain / sqrt(variance + epsilon) (dy - mean(dy) - z mean(dy z))
  // dx may be x or dy, and may be null.
  virtual void BatchNormGradient(Stream& stream, const NormArgs& args, const float* mean,
                                 const float* variance, const float* dy, float* dgain,
                                 float* doffset, float* dx) = 0;
  // Layer norm: normalises rows by their own mean and variance [rows], which it writes. Source: Ba,
  // Kiros, Hinton: "Layer Normalization", arXiv:1607.06450, 2016.
  virtual void LayerNorm(Stream& stream, const NormArgs& args, float* mean, float* variance,
                         float* y) = 0;
  // With z as above, dgain and doffset likewise (sums over rows), g = dy gain, and means over
  // columns: dx = (g - mean(g) - z mean(g z)) / sqrt(variance + epsilon). dx as above.
  virtual void LayerNormGradient(Stream& stream, const NormArgs& args, const float* mean,
                                 const float* variance, const float* dy, float* dgain,
                                 float* doffset, float* dx) = 0;

  // frames [n, frames, window] of n sounds.
  virtual void FrameSounds(Stream& stream, int64_t n, const SoundArgs& sounds, float* frames) = 0;
  // log_mel[r, c] = ln max(sum over channel c's bins k of weight · |z[r, k]|, floor), with z[r, k]
  // = spectrum[r, k] + i spectrum[r, bins + k]; spectrum [rows, 2 * bins], log_mel [rows,
  // channels].
  virtual void LogMel(Stream& stream, int64_t rows, const MelArgs& mel, const float* spectrum,
                      float* log_mel) = 0;

  // The updates of weights: optimizer_math.h's functions of these names, over arrays aligned to 16
  // bytes.
  virtual void SgdUpdate(Stream& stream, const UpdateInput& in) = 0;
  virtual void MomentumUpdate(Stream& stream, const UpdateInput& in, float mu, float* momentum) = 0;
  virtual void NesterovUpdate(Stream& stream, const UpdateInput& in, float mu, float* momentum) = 0;
  virtual void AdagradUpdate(Stream& stream, const UpdateInput& in, float epsilon,
                             float* accumulator) = 0;
  virtual void RmspropUpdate(Stream& stream, const UpdateInput& in, const RmspropFactors& factors,
                             float* square, float* velocity, float* mean) = 0;
  virtual void AdamUpdate(Stream& stream, const UpdateInput& in, const AdamFactors& factors,
                          float* m, float* v) = 0;
  virtual void LambDirection(Stream& stream, const UpdateInput& in, const AdamFactors& factors,
                             float* m, float* v) = 0;
  virtual void FtrlUpdate(Stream& stream, const UpdateInput& in, const FtrlFactors& factors,
                          float* accumulator, float* linear) = 0;
  virtual void EmaUpdate(Stream& stream, const float* sum, const float* w, float* w_next, int64_t n,
                         float mean_scale, float rate) = 0;
  // *found = 1 where x holds a value that is not finite; else it stays as it is.
  virtual void FindNonFinite(Stream& stream, int64_t n, const float* x, int32_t* found) = 0;

  // Borrows the codec. Null where the device has no code for it: then the host encodes.
  virtual std::unique_ptr<DeviceCodec> MakeCodec(const Codec& codec) = 0;

  virtual std::unique_ptr<Conv2dPlan> MakeConv2d(const Conv2dArgs& args) = 0;
};

// Words of 32 mask bits per sample.
constexpr int64_t MaskWords(int64_t features) { return (features + 31) / 32; }

}  // namespace muster
