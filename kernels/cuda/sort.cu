#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/sort.h"

namespace muster::gpu {

size_t SortScratchBytes(int64_t n) {
  size_t bytes = 0;
  const int32_t* const in = nullptr;
  int32_t* const out = nullptr;
  // Without scratch memory it only says how much it needs.
  cub::DeviceRadixSort::SortPairs(nullptr, bytes, in, out, in, out, static_cast<int>(n));
  return bytes;
}

cudaError_t SortPairs(cudaStream_t stream, int64_t n, int bits, const int32_t* keys,
                      int32_t* sorted_keys, const int32_t* values, int32_t* sorted_values,
                      void* scratch, size_t scratch_bytes) {
  return cub::DeviceRadixSort::SortPairs(scratch, scratch_bytes, keys, sorted_keys, values,
                                         sorted_values, static_cast<int>(n), 0, bits, stream);
}

}  // namespace muster::gpu
