// HostGpu: a GPU's kernels and a GPU's rules on the host, for tests.
//
// Its ops are the kernels of kernels/cuda, run index by index; products and convolutions are the
// CPU's. Its memory is not for the host to read, as far as callers can tell: arrays go there by
// copies alone. Thread-safe as Device says.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "kernels/communicator.h"
#include "kernels/device.h"
#include "kernels/gpu_options.h"

namespace muster::testing {

// When a stream does what it is told: the two ends of what a GPU may do. What is right on both
// waits where it has to.
enum class HostGpuPace {
  kAtOnce,  // before the call returns
  kLate,    // when the host waits for it, or frees memory
};

// Bytes that were copied between a GPU and the host.
struct HostGpuCopies {
  std::atomic<int64_t> to_host_bytes{0}, to_device_bytes{0};
};

struct HostGpuOptions {
  HostGpuPace pace = HostGpuPace::kAtOnce;
  size_t memory = SIZE_MAX;                         // bytes for each allocation
  GpuPrecision precision = GpuPrecision::kFloat32;  // that, or kBf16
  bool graphs = true;                               // its streams capture
  bool codecs = true;                               // it has code for gradients' codecs
  int64_t failing_capture = -1;                     // the number of one that fails
  // Of graphs, counted there; or null.
  std::shared_ptr<std::atomic<int64_t>> captures = {}, launches = {};
  std::shared_ptr<HostGpuCopies> copies = {};  // counted there; or null
};
std::unique_ptr<Device> MakeHostGpu(const HostGpuOptions& options = {});

// A GPU that fails when it is to take part in a call of the communicator: the others wait for it
// until the communicator is told to give up. Only with kLate.
struct FailingGpu {
  int rank = 0;
  int64_t calls = 0;  // that go well before
};

// GPUs that one process drives; the communicator adds in rank order.
struct HostGpus {
  std::vector<std::unique_ptr<Device>> devices;
  std::unique_ptr<Communicator> communicator;
};
HostGpus MakeHostGpus(int count, HostGpuPace pace = HostGpuPace::kAtOnce,
                      std::optional<FailingGpu> failing = {}, bool graphs = true);

// Of HostGpus that were made together.
std::unique_ptr<Communicator> MakeHostCommunicator(std::vector<const Device*> devices,
                                                   std::optional<FailingGpu> failing);

}  // namespace muster::testing
