// HostGpu: a GPU's kernels and a GPU's rules on the host, for tests.
//
// Its ops are the kernels of kernels/cuda, run index by index; products and convolutions are the
// CPU's. Its memory is not for the host to read, as far as callers can tell: arrays go there by
// copies alone. A stream does what it is told at once, on the calling thread. Thread-safe as Device
// says.
#pragma once

#include <memory>

#include "kernels/device.h"

namespace muster::testing {

std::unique_ptr<Device> MakeHostGpu();

}  // namespace muster::testing
