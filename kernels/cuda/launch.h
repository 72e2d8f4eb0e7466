// Launch: runs a kernel on a GPU, a thread for each index.
//
// Defined in launch.cu for the kernels that it lists. That and sort.cu are the only files that nvcc
// compiles: everything else is the host compiler's. Thread-safe.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace muster::gpu {

// kernel(0) … kernel(n - 1), in any order, on `stream` of the current device. PRECONDITION: 0 < n <
// 2^31.
template <class Kernel>
cudaError_t Launch(cudaStream_t stream, int64_t n, const Kernel& kernel);

}  // namespace muster::gpu
