// CpuOps: the table of ops of the cpu device. See device_ops.h for what each does; the convolutions
// are in conv_cpu_*.cc, the norms in norm_cpu.cc, what it does to sounds in sound_cpu.cc, the
// updates in update_cpu.cc, codecs in codec_cpu.cc, rows by ids in embedding_cpu.cc.
//
// Internal to the cpu device. Thread-safe.
#pragma once

#include <memory>

#include "kernels/device_ops.h"

namespace muster {

class CpuOps final : public DeviceOps {
 public:
  explicit CpuOps(int threads) : threads_(threads) {}

  void Copy(Stream&, void* to, const void* from, size_t bytes, CopyDirection) override;
  void Fill(Stream&, int64_t n, float value, float* x) override;
  void Store(Stream&, int64_t value, int64_t* to) override { *to = value; }
  void Axpy(Stream&, int64_t n, float a, const float* x, float* y) override;
  void Gemm(Stream& stream, const GemmArgs& g) override;
  void BroadcastRow(Stream&, int64_t rows, int64_t cols, const float* row, float* y) override;
  void SumRows(Stream&, int64_t rows, int64_t cols, const float* x, float* sum) override;
  void GatherRows(Stream&, const RowArgs& args, const float* table, float* y) override;
  void ScatterAddRows(Stream&, const RowArgs& args, const float* dy, float* table) override;
  void ReluDropout(Stream&, int64_t n, int64_t features, const DropoutArgs& dropout,
                   const ChannelBias& bias, const float* x, float* y, uint32_t* mask) override;
  void MaskedScale(Stream&, int64_t n, int64_t features, const uint32_t* mask, float scale,
                   const float* dy, float* dx) override;
  void Dropout(Stream&, int64_t n, int64_t features, const DropoutArgs& dropout, const float* x,
               float* y) override;
  void MaxPool(Stream&, int64_t n, const PoolArgs& pool, const float* x, float* y,
               uint8_t* winners) override;
  void MaxPoolGradient(Stream&, int64_t n, const PoolArgs& pool, const uint8_t* winners,
                       const float* dy, float* dx) override;
  void SoftmaxCrossEntropy(Stream&, int64_t n, int64_t classes, int64_t batch, const float* x,
                           const int32_t* label, float* loss, float* dx) override;
  void SvdfExpand(Stream&, int64_t frames, int64_t features, int64_t units, int64_t rank,
                  const float* feature, const float* time, float* matrix) override;
  void SvdfContract(Stream&, int64_t frames, int64_t features, int64_t units, int64_t rank,
                    const float* feature, const float* time, const float* dmatrix, float* dfeature,
                    float* dtime) override;
  void BatchNorm(Stream&, const NormArgs& args, float* mean, float* variance, float* y) override;
  void BatchNormInference(Stream&, const NormArgs& args, const float* mean, const float* variance,
                          float* y) override;
  void BatchNormGradient(Stream&, const NormArgs& args, const float* mean, const float* variance,
                         const float* dy, float* dgain, float* doffset, float* dx) override;
  void LayerNorm(Stream&, const NormArgs& args, float* mean, float* variance, float* y) override;
  void LayerNormGradient(Stream&, const NormArgs& args, const float* mean, const float* variance,
                         const float* dy, float* dgain, float* doffset, float* dx) override;
  void FrameSounds(Stream&, int64_t n, const SoundArgs& sounds, float* frames) override;
  void LogMel(Stream&, int64_t rows, const MelArgs& mel, const float* spectrum,
              float* log_mel) override;
  // On the calling thread alone.
  void SgdUpdate(Stream&, const UpdateInput& in) override;
  void MomentumUpdate(Stream&, const UpdateInput& in, float mu, float* momentum) override;
  void NesterovUpdate(Stream&, const UpdateInput& in, float mu, float* momentum) override;
  void AdagradUpdate(Stream&, const UpdateInput& in, float epsilon, float* accumulator) override;
  void RmspropUpdate(Stream&, const UpdateInput& in, const RmspropFactors& factors, float* square,
                     float* velocity, float* mean) override;
  void AdamUpdate(Stream&, const UpdateInput& in, const AdamFactors& factors, float* m,
                  float* v) override;
  void LambDirection(Stream&, const UpdateInput& in, const AdamFactors& factors, float* m,
                     float* v) override;
  void FtrlUpdate(Stream&, const UpdateInput& in, const FtrlFactors& factors, float* accumulator,
                  float* linear) override;
  void EmaUpdate(Stream&, const float* sum, const float* w, float* w_next, int64_t n,
                 float mean_scale, float rate) override;
  void FindNonFinite(Stream&, int64_t n, const float* x, int32_t* found) override;
  // Of any codec; on the calling thread alone, too.
  std::unique_ptr<DeviceCodec> MakeCodec(const Codec& codec) override;
  std::unique_ptr<Conv2dPlan> MakeConv2d(const Conv2dArgs& args) override;

 private:
  const int threads_;
};

// A convolution by patches (im2col) and sgemm: for few channels, and for all shapes.
std::unique_ptr<Conv2dPlan> MakePatchConv2d(const Conv2dArgs& args, int threads);
// A convolution by oneDNN's direct kernels; null where it has only its reference implementation.
std::unique_ptr<Conv2dPlan> MakeDirectConv2d(const Conv2dArgs& args, int threads);

}  // namespace muster
