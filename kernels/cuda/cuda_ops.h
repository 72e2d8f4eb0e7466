// CudaOps: the table of ops of a GPU: kernels of our own (kernel_ops.h), cuBLASLt, cuDNN.
//
// Internal to the plug-in. Thread-safe; a stream, and what is on it, is one thread's.
#pragma once

#include <cublasLt.h>

#include <map>
#include <memory>

#include "kernels/device_ops.h"
#include "kernels/gpu_options.h"
#include "telemetry/mutex.h"

namespace muster::gpu {

struct Frame;  // kernels/cuda/conv_kernels.h

// A Gemm's shape, and what else decides how cuBLASLt computes it.
struct GemmShape {
  bool trans_a, trans_b;
  int64_t m, n, k, lda, ldb, ldc;
  bool bias;
  GpuPrecision precision;
  int alignment;  // of a, b and c together, in bytes
  auto operator<=>(const GemmShape&) const = default;
};

// Matrix products by cuBLASLt. The algorithm of a shape is what its heuristic names first, a
// function of shape, device and library: the same on all workers of a job.
class GemmPlans {
 public:
  // Starts cuBLASLt; `status` says whether that worked.
  explicit GemmPlans(GpuPrecision precision);
  ~GemmPlans();
  GemmPlans(const GemmPlans&) = delete;
  GemmPlans& operator=(const GemmPlans&) = delete;

  absl::Status status() const { return status_; }
  void Run(Stream& stream, const GemmArgs& g);

 private:
  struct Plan;
  absl::StatusOr<const Plan*> Find(const GemmShape& shape);

  const GpuPrecision precision_;
  cublasLtHandle_t handle_ = nullptr;
  absl::Status status_;
  Mutex mu_;
  std::map<GemmShape, std::unique_ptr<Plan>> plans_ ABSL_GUARDED_BY(mu_);
};

// What a convolution by cuDNN needs of our kernels. Arrays of bfloat16 are aligned to 8 bytes,
// those that they are made of, or become, to 16.
class ConvKernels {
 public:
  virtual ~ConvKernels() = default;
  virtual void PadImages(Stream& stream, int64_t n, const Frame& frame, const float* x,
                         float* outer) = 0;
  virtual void CropImages(Stream& stream, int64_t n, const Frame& frame, const float* outer,
                          float* x) = 0;
  virtual void TransposeFilter(Stream& stream, int64_t rows, int64_t cols, const float* x,
                               float* y) = 0;
  virtual void AddBias(Stream& stream, int64_t rows, int64_t cols, const float* bias, float* y) = 0;
  virtual void SumBias(Stream& stream, int64_t rows, int64_t cols, const float* dy, float* db) = 0;
  virtual void ToBf16(Stream& stream, int64_t n, const float* x, uint16_t* bf16) = 0;
  virtual void FromBf16(Stream& stream, int64_t n, const uint16_t* bf16, float* x) = 0;
};

std::unique_ptr<Conv2dPlan> MakeCudnnConv2d(const Conv2dArgs& args, Device& device,
                                            ConvKernels& kernels, GpuPrecision precision);

// The table. Fails when cuBLASLt does not start.
absl::StatusOr<std::unique_ptr<DeviceOps>> MakeCudaOps(Device& device, const GpuOptions& options);

}  // namespace muster::gpu
