// GpuPlugin: what libmuster_cuda.so gives to the program that loads it, by one C symbol.
//
// Programs are built without CUDA and load the plug-in at run time (kernels/gpu.h), so the same
// build runs where there is none. What passes through here are C++ types of one build: `build_id`
// is compared before anything else is touched. Immutable: thread-safe.
#pragma once

#include <algorithm>
#include <fstream>
#include <memory>
#include <span>
#include <string>

#include "kernels/communicator.h"
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
  // Of the GPUs with these indices, for streams of their devices. Fails with what NCCL says.
  absl::StatusOr<std::unique_ptr<Communicator>> (*make_communicator)(std::span<const int> gpus);
};

// "580.95.05": the first number with dots in the file by which the driver's kernel module tells its
// version (/proc/driver/nvidia/version); "" where there is none.
inline std::string DriverVersion(const std::string& file) {
  std::ifstream in(file);
  for (std::string word; in >> word;) {
    if (word.size() >= 3 && std::count(word.begin(), word.end(), '.') >= 1 &&
        word.find_first_not_of("0123456789.") == std::string::npos) {
      return word;
    }
  }
  return "";
}

// `extern "C" const muster::GpuPlugin* muster_gpu_plugin()`
inline constexpr char kGpuPluginSymbol[] = "muster_gpu_plugin";

}  // namespace muster
