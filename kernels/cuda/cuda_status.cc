#include "kernels/cuda/cuda_status.h"

#include <fmt/format.h>

namespace muster::gpu {

absl::Status ToStatus(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return absl::OkStatus();
  (void)cudaGetLastError();
  const std::string text = fmt::format("could not {}: {} ({})", what, cudaGetErrorString(error),
                                       cudaGetErrorName(error));
  if (error == cudaErrorMemoryAllocation) return absl::ResourceExhaustedError(text);
  return absl::InternalError(text);
}

absl::Status ToStatus(cudnnStatus_t error, const std::string& what) {
  if (error == CUDNN_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(
      fmt::format("could not {}: cuDNN says {}", what, cudnnGetErrorString(error)));
}

absl::Status ToStatus(cublasStatus_t error, const std::string& what) {
  if (error == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return absl::InternalError(
      fmt::format("could not {}: cuBLAS says {}", what, cublasLtGetStatusString(error)));
}

}  // namespace muster::gpu
