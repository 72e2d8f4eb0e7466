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

absl::StatusOr<std::unique_ptr<Device>> MakeTestDevice(const std::string& name) {
  if (name.starts_with("cpu_")) return MakeCpuDevice(name.back() - '0');
  if (name == "host_gpu") return MakeHostGpu();
  if (name == "late_host_gpu") return MakeHostGpu(HostGpuPace::kLate);
  CHECK(name == "gpu");
  return GpuChain::Find(TestGpuSearch())
      .MakeDevice({.index = 0, .precision = GpuPrecision::kFloat32});
}

}  // namespace muster::testing
