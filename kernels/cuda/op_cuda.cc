#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/kernel_ops.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/patch_conv2d.h"
#include "kernels/cuda/sort.h"

namespace muster::gpu {
namespace {

class CudaLauncher {
 public:
  template <class Kernel>
  void Launch(Stream& stream, int64_t n, const Kernel& kernel) {
    auto& cuda = static_cast<CudaStream&>(stream);
    cuda.Keep(ToStatus(gpu::Launch(cuda.Use(), n, kernel), "start a kernel"));
  }
  static float* Scratch(Stream& stream, int64_t n) {
    return static_cast<float*>(
        static_cast<CudaStream&>(stream).Scratch(static_cast<size_t>(n) * sizeof(float)));
  }
  static int64_t SortScratch(Stream& stream, int64_t n) {
    static_cast<CudaStream&>(stream).Use();  // it is the device's matter
    return CeilDiv(static_cast<int64_t>(SortScratchBytes(n)), sizeof(float));
  }
  static void SortPairs(Stream& stream, int64_t n, int bits, const int32_t* keys,
                        int32_t* sorted_keys, const int32_t* values, int32_t* sorted_values,
                        void* scratch, int64_t scratch_elements) {
    auto& cuda = static_cast<CudaStream&>(stream);
    cuda.Keep(
        ToStatus(gpu::SortPairs(cuda.Use(), n, bits, keys, sorted_keys, values, sorted_values,
                                scratch, static_cast<size_t>(scratch_elements) * sizeof(float)),
                 "sort ids"));
  }
};

cudaMemcpyKind KindOf(CopyDirection direction) {
  switch (direction) {
    case CopyDirection::kHostToDevice:
      return cudaMemcpyHostToDevice;
    case CopyDirection::kDeviceToHost:
      return cudaMemcpyDeviceToHost;
    case CopyDirection::kDeviceToDevice:
      return cudaMemcpyDeviceToDevice;
  }
  return cudaMemcpyDefault;
}

class CudaOps final : public KernelOps<CudaLauncher>, public ConvKernels {
 public:
  CudaOps(Device& device, const GpuOptions& options)
      : KernelOps(CudaLauncher()),
        device_(device),
        precision_(options.precision),
        gemms_(options.precision) {}

  absl::Status status() const { return gemms_.status(); }

  void Copy(Stream& stream, void* to, const void* from, size_t bytes,
            CopyDirection direction) override {
    if (bytes == 0) return;
    auto& cuda = static_cast<CudaStream&>(stream);
    cuda.Keep(ToStatus(cudaMemcpyAsync(to, from, bytes, KindOf(direction), cuda.Use()),
                       "copy between host and GPU"));
  }

  void Gemm(Stream& stream, const GemmArgs& args) override { gemms_.Run(stream, args); }

  std::unique_ptr<Conv2dPlan> MakeConv2d(const Conv2dArgs& args) override {
    if (!ByCudnn(args)) {
      return std::make_unique<PatchConv2d<CudaOps>>(args, device_, *this);
    }
    return MakeCudnnConv2d(args, device_, *this, precision_);
  }

  void PadImages(Stream& stream, int64_t n, const Frame& frame, const float* x,
                 float* outer) override {
    Pad(stream, n, frame, x, outer);
  }
  void CropImages(Stream& stream, int64_t n, const Frame& frame, const float* outer,
                  float* x) override {
    Crop(stream, n, frame, outer, x);
  }
  void TransposeFilter(Stream& stream, int64_t rows, int64_t cols, const float* x,
                       float* y) override {
    Transpose(stream, rows, cols, x, y);
  }
  void AddBias(Stream& stream, int64_t rows, int64_t cols, const float* bias, float* y) override {
    AddRow(stream, rows, cols, bias, y);
  }
  void SumBias(Stream& stream, int64_t rows, int64_t cols, const float* dy, float* db) override {
    SumRows(stream, rows, cols, dy, db);
  }
  void ToBf16(Stream& stream, int64_t n, const float* x, uint16_t* bf16) override {
    RoundToBf16(stream, n, x, bf16);
  }
  void FromBf16(Stream& stream, int64_t n, const uint16_t* bf16, float* x) override {
    WidenBf16(stream, n, bf16, x);
  }

 private:
  // cuDNN's kernels for bfloat16 take channels by eights.
  bool ByCudnn(const Conv2dArgs& args) const {
    if (args.in_channels < kLeastCudnnChannels) return false;
    return precision_ != GpuPrecision::kBf16 ||
           (args.in_channels % 8 == 0 && args.out_channels % 8 == 0);
  }

  Device& device_;
  const GpuPrecision precision_;
  GemmPlans gemms_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceOps>> MakeCudaOps(Device& device, const GpuOptions& options) {
  auto ops = std::make_unique<CudaOps>(device, options);
  RETURN_IF_ERROR(ops->status());
  return ops;
}

}  // namespace muster::gpu
