// CheckDevice: runs each op once on a device and on the CPU, and compares.
//
// A free function, thread-safe.
#pragma once

#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/gpu_options.h"
#include "telemetry/status.h"

namespace muster {

struct OpCheck {
  std::string op;         // "conv2d, gradient of weights"
  double difference = 0;  // the greatest between two elements, over the greatest of the CPU's
  double allowed = 0;
  absl::Status status;  // of the device
  bool ok() const { return status.ok() && difference <= allowed; }
};

// What products and convolutions may differ by. Of float32, sums in another order. Of the others,
// ten times what rounding changes a factor by at most (2^-11 of it in TF32, 2^-8 in bfloat16): a
// sum's errors are as random as its terms, so the greatest error is some roundings of the greatest
// sum, whatever the number of terms.
double ProductTolerance(GpuPrecision precision);

// Every op of device_ops.h, on shapes of a small model. `tolerance` is that of products and
// convolutions; what only selects or copies has to be equal.
std::vector<OpCheck> CheckDevice(Device& device, double tolerance);

}  // namespace muster
