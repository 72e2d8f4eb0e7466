// The devices that tests of ops run on: the CPU with 1 to 3 threads, a GPU's kernels on the host
// (host_gpu.h), and this machine's GPU.
//
// Free functions, thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/gpu.h"
#include "telemetry/status.h"

namespace muster::testing {

// "cpu_1", "cpu_2", "cpu_3", "host_gpu", "gpu".
std::vector<std::string> DeviceNames();

// One of these, or "late_host_gpu", whose streams work as late as they may (host_gpu.h); or
// "bf16_host_gpu", "tf32_gpu", "bf16_gpu", in that precision: the others compute in float32.
// A GPU is looked for beside the programs in $MUSTER_BIN, and fails with the broken link where
// there is none: a test then skips with that.
// Without `graphs` its streams do not capture (kernels/stream.h).
absl::StatusOr<std::unique_ptr<Device>> MakeTestDevice(const std::string& name, bool graphs = true);
// Where "gpu" is looked for.
GpuSearch TestGpuSearch();

}  // namespace muster::testing
