// CheckDevice: runs each op once on a device and on the CPU, and compares.
//
// A free function, thread-safe.
#pragma once

#include <string>
#include <vector>

#include "kernels/device.h"
#include "telemetry/status.h"

namespace muster {

struct OpCheck {
  std::string op;         // "conv2d, gradient of weights"
  double difference = 0;  // the greatest between two elements, over the greatest of the CPU's
  double allowed = 0;
  absl::Status status;  // of the device
  bool ok() const { return status.ok() && difference <= allowed; }
};

// Every op of device_ops.h, on shapes of a small model. `tolerance` is that of products and
// convolutions (1e-5 for float32, 5e-3 for TF32's 10 bits of mantissa); what only selects or copies
// has to be equal.
std::vector<OpCheck> CheckDevice(Device& device, double tolerance);

}  // namespace muster
