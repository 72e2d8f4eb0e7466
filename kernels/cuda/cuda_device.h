// CudaDevice: an NVIDIA GPU as a Device.
//
// Thread-safe as Device says. See Device for who owns what.
#pragma once

#include <memory>

#include "kernels/device.h"
#include "kernels/gpu_options.h"

namespace muster::gpu {

// Fails with what the driver, or a library, says.
absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(const GpuOptions& options);

}  // namespace muster::gpu
