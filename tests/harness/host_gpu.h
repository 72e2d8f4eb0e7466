// HostGpu: a GPU's kernels and a GPU's rules on the host, for tests.
//
// Its ops are the kernels of kernels/cuda, run index by index; products and convolutions are the
// CPU's. Its memory is not for the host to read, as far as callers can tell: arrays go there by
// copies alone. Thread-safe as Device says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/device.h"

namespace muster::testing {

// When a stream does what it is told: the two ends of what a GPU may do. What is right on both
// waits where it has to.
enum class HostGpuPace {
  kAtOnce,  // before the call returns
  kLate,    // when the host waits for it, or frees memory
};

// With `memory` bytes for each allocation.
std::unique_ptr<Device> MakeHostGpu(HostGpuPace pace = HostGpuPace::kAtOnce,
                                    size_t memory = SIZE_MAX);

}  // namespace muster::testing
