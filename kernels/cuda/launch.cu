#include "kernels/cuda/launch.h"

#include "kernels/cuda/codec_half_kernels.h"
#include "kernels/cuda/codec_int8_kernels.h"
#include "kernels/cuda/codec_one_bit_kernels.h"
#include "kernels/cuda/codec_topk_kernels.h"
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

namespace muster::gpu {
namespace {

constexpr int kThreads = 256;  // of a block

template <class Kernel>
__global__ void __launch_bounds__(kThreads) RunKernel(uint32_t n, const Kernel kernel) {
  const uint32_t i = blockIdx.x * kThreads + threadIdx.x;
  if (i < n) kernel(i);
}

}  // namespace

template <class Kernel>
cudaError_t Launch(cudaStream_t stream, int64_t n, const Kernel& kernel) {
  const auto blocks = static_cast<unsigned>((n + kThreads - 1) / kThreads);
  RunKernel<<<blocks, kThreads, 0, stream>>>(static_cast<uint32_t>(n), kernel);
  return cudaGetLastError();
}

#define MUSTER_LAUNCH(...) \
  template cudaError_t Launch(cudaStream_t, int64_t, const __VA_ARGS__&)

MUSTER_LAUNCH(FillKernel);
MUSTER_LAUNCH(StoreKernel);
MUSTER_LAUNCH(AxpyKernel);
MUSTER_LAUNCH(NonFiniteKernel);
MUSTER_LAUNCH(BroadcastRowKernel);
MUSTER_LAUNCH(AddRowKernel<1>);
MUSTER_LAUNCH(AddRowKernel<4>);
MUSTER_LAUNCH(SumChunksKernel<1>);
MUSTER_LAUNCH(SumChunksKernel<4>);
MUSTER_LAUNCH(GatherRowsKernel<1>);
MUSTER_LAUNCH(GatherRowsKernel<4>);
MUSTER_LAUNCH(PositionsKernel);
MUSTER_LAUNCH(ScatterAddRowsKernel<1>);
MUSTER_LAUNCH(ScatterAddRowsKernel<4>);
MUSTER_LAUNCH(ReluDropoutKernel);
MUSTER_LAUNCH(MaskedScaleKernel);
MUSTER_LAUNCH(DropoutKernel);
MUSTER_LAUNCH(MaxPoolKernel<1>);
MUSTER_LAUNCH(MaxPoolKernel<4>);
MUSTER_LAUNCH(MaxPoolGradientKernel<1>);
MUSTER_LAUNCH(MaxPoolGradientKernel<4>);
MUSTER_LAUNCH(SoftmaxCrossEntropyKernel);
MUSTER_LAUNCH(SvdfExpandKernel);
MUSTER_LAUNCH(SvdfFeatureGradientKernel);
MUSTER_LAUNCH(SvdfTimeGradientKernel);
MUSTER_LAUNCH(ColumnMomentsKernel<1>);
MUSTER_LAUNCH(ColumnMomentsKernel<4>);
MUSTER_LAUNCH(RowMomentsKernel<1>);
MUSTER_LAUNCH(RowMomentsKernel<4>);
MUSTER_LAUNCH(MergeMomentsKernel<false>);
MUSTER_LAUNCH(MergeMomentsKernel<true>);
MUSTER_LAUNCH(NormalizeColumnsKernel<1>);
MUSTER_LAUNCH(NormalizeColumnsKernel<4>);
MUSTER_LAUNCH(NormalizeRowsKernel<1>);
MUSTER_LAUNCH(NormalizeRowsKernel<4>);
MUSTER_LAUNCH(GainGradientKernel<1, false>);
MUSTER_LAUNCH(GainGradientKernel<4, false>);
MUSTER_LAUNCH(GainGradientKernel<1, true>);
MUSTER_LAUNCH(GainGradientKernel<4, true>);
MUSTER_LAUNCH(ColumnGradientKernel<1>);
MUSTER_LAUNCH(ColumnGradientKernel<4>);
MUSTER_LAUNCH(RowSumsKernel<1>);
MUSTER_LAUNCH(RowSumsKernel<4>);
MUSTER_LAUNCH(RowGradientKernel<1>);
MUSTER_LAUNCH(RowGradientKernel<4>);
MUSTER_LAUNCH(FrameSoundsKernel<1>);
MUSTER_LAUNCH(FrameSoundsKernel<4>);
MUSTER_LAUNCH(LogMelKernel);
MUSTER_LAUNCH(PadKernel<1>);
MUSTER_LAUNCH(PadKernel<4>);
MUSTER_LAUNCH(CropKernel<1>);
MUSTER_LAUNCH(CropKernel<4>);
MUSTER_LAUNCH(TransposeKernel);
MUSTER_LAUNCH(PatchKernel);
MUSTER_LAUNCH(PatchGradientKernel);
MUSTER_LAUNCH(HalfEncodeKernel<Fp16Format>);
MUSTER_LAUNCH(HalfDecodeKernel<Fp16Format>);
MUSTER_LAUNCH(HalfEncodeKernel<Bf16Format>);
MUSTER_LAUNCH(HalfDecodeKernel<Bf16Format>);
MUSTER_LAUNCH(Int8ExponentKernel);
MUSTER_LAUNCH(Int8EncodeKernel);
MUSTER_LAUNCH(Int8DecodeKernel);
MUSTER_LAUNCH(OneBitSumsKernel);
MUSTER_LAUNCH(OneBitEncodeKernel);
MUSTER_LAUNCH(OneBitDecodeKernel);
MUSTER_LAUNCH(TopkCountKernel<false>);
MUSTER_LAUNCH(TopkCountKernel<true>);
MUSTER_LAUNCH(TopkPartKernel);
MUSTER_LAUNCH(TopkDigitKernel<false>);
MUSTER_LAUNCH(TopkDigitKernel<true>);
MUSTER_LAUNCH(TopkChunkKernel);
MUSTER_LAUNCH(TopkGroupKernel);
MUSTER_LAUNCH(TopkSendKernel);
MUSTER_LAUNCH(TopkScatterKernel);
MUSTER_LAUNCH(UpdateKernel<SgdRule>);
MUSTER_LAUNCH(UpdateKernel<MomentumRule<false>>);
MUSTER_LAUNCH(UpdateKernel<MomentumRule<true>>);
MUSTER_LAUNCH(UpdateKernel<AdagradRule>);
MUSTER_LAUNCH(UpdateKernel<RmspropRule>);
MUSTER_LAUNCH(UpdateKernel<AdamRule<false>>);
MUSTER_LAUNCH(UpdateKernel<AdamRule<true>>);
MUSTER_LAUNCH(UpdateKernel<FtrlRule>);
MUSTER_LAUNCH(UpdateKernel<EmaRule>);

}  // namespace muster::gpu
