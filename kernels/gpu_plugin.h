// GpuPlugin: what libmuster_cuda.so gives to the program that loads it, by one C symbol.
//
// Programs are built without CUDA and load the plug-in at run time (kernels/gpu.h), so the same
// build runs where there is none. What passes through here are C++ types of one build: `build_id`
// is compared before anything else is touched. Immutable: thread-safe.
#pragma once

#include <memory>

#include "kernels/device.h"
#include "kernels/gpu_options.h"
#include "telemetry/status.h"

namespace muster {

struct GpuPlugin {
  const char* build_id;  // of the programs it was built with
  int toolkit;           // 13000: CUDA 13.0
  // What code is in there: "75 80 90+ptx": for GPUs of compute 7.5, 8.0 and 9.0, and a form of the
  // last one that drivers translate for later ones.
  const char* architectures;
  // Fails with what is wrong with the GPU, or with the libraries that it is used through.
  absl::StatusOr<std::unique_ptr<Device>> (*make_device)(const GpuOptions& options);
};

// `extern "C" const muster::GpuPlugin* muster_gpu_plugin()`
inline constexpr char kGpuPluginSymbol[] = "muster_gpu_plugin";

}  // namespace muster
