// What every kernel of this folder is: a functor, called once for each index of its range, in any
// order and at once, writing what no other index reads, nor writes but with the same value.
//
//   struct FillKernel {
//     float value;
//     float* x;
//     MUSTER_KERNEL void operator()(int64_t i) const { x[i] = value; }
//   };
//
// So the same body runs on a GPU, where a thread takes an index (launch.h), and on the host in the
// tests, where a loop does (tests/harness/host_gpu.h). A kernel is deterministic by its form: there
// are no atomics, and a sum has one order.
//
// Fewer than 2^31 indices a launch: a GPU divides 32 bits several times faster than 64.
//
// Values, thread-compatible; pointers are borrowed until the kernel is done.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define MUSTER_KERNEL __host__ __device__ __forceinline__
#define MUSTER_ROLLED _Pragma("unroll 1")  // a loop that would need too many registers unrolled
#else
#define MUSTER_KERNEL inline
#define MUSTER_ROLLED
#endif

namespace muster::gpu {

// Sixteen bytes, which a thread reads and writes at once: a GPU reaches its bandwidth only so.
template <typename T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(T);
  T v[kSize];

  MUSTER_KERNEL T& operator[](int i) { return v[i]; }
  MUSTER_KERNEL const T& operator[](int i) const { return v[i]; }
};
using Pack4 = Pack<float>;

// PRECONDITION: `x` is aligned to 16 bytes.
MUSTER_KERNEL Pack4 Load4(const float* x) { return *reinterpret_cast<const Pack4*>(x); }
MUSTER_KERNEL void Store4(const Pack4& pack, float* x) { *reinterpret_cast<Pack4*>(x) = pack; }

// Whether rows of `row` elements that begin at these addresses can be read by fours.
template <typename... P>
bool ByFours(int64_t row, const P*... pointers) {
  return row % 4 == 0 && ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace muster::gpu
