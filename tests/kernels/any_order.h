// RunInAnyOrder: a GPU kernel on the host, its indices in an order that is another one for each
// run, as a kernel must bear it (kernels/cuda/kernel.h).
//
// One thread's. Kernels that follow each other need not be told apart: each is done when it
// returns.
#pragma once

#include <cstdint>

#include "kernels/philox.h"

namespace muster::testing {

class RunInAnyOrder {
 public:
  explicit RunInAnyOrder(uint64_t seed) : seed_(seed) {}

  template <class Kernel>
  void operator()(int64_t n, const Kernel& kernel) const {
    const PhiloxKey key = DeriveKey(seed_, runs_++);
    for (int64_t i = 0; i < n; ++i) kernel(Permute(n, key, i));
  }

 private:
  const uint64_t seed_;
  mutable uint64_t runs_ = 0;
};

}  // namespace muster::testing
