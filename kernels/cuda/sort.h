// A stable sort of pairs on a GPU, by CUB's radix sort.
//
// Defined in sort.cu, for nvcc as launch.cu is. Thread-safe.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace muster::gpu {

// Bytes of scratch memory that SortPairs needs for n pairs. PRECONDITION: 0 < n < 2^31.
size_t SortScratchBytes(int64_t n);

// sorted_keys [n] = keys ascending, sorted_values = their values, equal keys in the order that they
// had: the same bits each time. Looks at the lowest `bits` of the keys, which are 0 above them. No
// memory is allocated, and the host does not wait: it can be captured (kernels/stream.h). In and
// out do not overlap. PRECONDITION: 0 < n < 2^31, 0 < bits < 32, at least SortScratchBytes(n) at
// `scratch`.
cudaError_t SortPairs(cudaStream_t stream, int64_t n, int bits, const int32_t* keys,
                      int32_t* sorted_keys, const int32_t* values, int32_t* sorted_values,
                      void* scratch, size_t scratch_bytes);

}  // namespace muster::gpu
