// Array: a large array of floats for benchmarks of memory, and STREAM's triad over such arrays.
//
// Owns its memory; thread-compatible. Sizes in elements.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "telemetry/check.h"

namespace muster::bench {

// n floats in huge pages where the system has them, so that address translation costs all alike.
class Array {
 public:
  Array(int64_t n, float value) : size_(static_cast<size_t>(n)) {
    constexpr size_t kHugePage = size_t{2} << 20;
    const size_t bytes = (size_ * sizeof(float) + kHugePage - 1) / kHugePage * kHugePage;
    void* memory = std::aligned_alloc(kHugePage, bytes);
    CHECK(memory != nullptr);
    madvise(memory, bytes, MADV_HUGEPAGE);
    data_.reset(static_cast<float*>(memory));
    std::fill_n(data_.get(), size_, value);
  }
  std::span<float> span() const { return {data_.get(), size_}; }

 private:
  struct Free {
    void operator()(float* memory) const { std::free(memory); }
  };
  size_t size_;
  std::unique_ptr<float, Free> data_;
};

// a = b + s * c: 12 bytes an element as STREAM counts them.
inline void Triad(std::span<float> a, std::span<const float> b, std::span<const float> c, float s) {
  for (size_t i = 0; i < a.size(); ++i) a[i] = b[i] + s * c[i];
}

}  // namespace muster::bench
