// What the CUDA libraries return, as absl::Status.
//
// Free functions, thread-safe.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <string>

#include "telemetry/status.h"

namespace muster::gpu {

// `what` was to be done: "allocate 4096 bytes on /gpu:0". Memory that is not there is
// ResourceExhausted, everything else Internal. An error of the runtime that was told so is
// forgotten by it: the next cudaGetLastError means what came after.
absl::Status ToStatus(cudaError_t error, const std::string& what);
absl::Status ToStatus(cudnnStatus_t error, const std::string& what);
absl::Status ToStatus(cublasStatus_t error, const std::string& what);

}  // namespace muster::gpu
