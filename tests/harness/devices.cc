#include "tests/harness/devices.h"

#include <cstdlib>

#include "kernels/gpu.h"
#include "telemetry/build_id.h"
#include "telemetry/check.h"
#include "tests/harness/host_gpu.h"

namespace muster::testing {

std::vector<std::string> DeviceNames() { return {"cpu_1", "cpu_2", "cpu_3", "host_gpu", "gpu"}; }

GpuSearch TestGpuSearch() {
  GpuSearch search = DefaultGpuSearch(BuildId(), std::getenv("HOME"), std::getenv("VIRTUAL_ENV"));
  if (const char* programs = std::getenv("MUSTER_BIN"); programs != nullptr) {
    search.plugin = std::string(programs) + "/libmuster_cuda.so";
  }
  return search;
}

absl::StatusOr<std::unique_ptr<Device>> MakeTestDevice(const std::string& name, bool graphs) {
  if (name.starts_with("cpu_")) return MakeCpuDevice(name.back() - '0');
  if (name == "host_gpu") return MakeHostGpu({.graphs = graphs});
  if (name == "late_host_gpu") {
    return MakeHostGpu({.pace = HostGpuPace::kLate, .graphs = graphs});
  }
  if (name == "bf16_host_gpu") {
    return MakeHostGpu({.precision = GpuPrecision::kBf16, .graphs = graphs});
  }
  CHECK(name == "gpu" || name == "tf32_gpu" || name == "bf16_gpu");
  const GpuPrecision precision = name == "gpu"        ? GpuPrecision::kFloat32
                                 : name == "tf32_gpu" ? GpuPrecision::kTf32
                                                      : GpuPrecision::kBf16;
  return GpuChain::Find(TestGpuSearch())
      .MakeDevice({.index = 0, .precision = precision, .graphs = graphs});
}

}  // namespace muster::testing
