// GpuChain: everything that has to be there before a GPU computes, link by link, and the GPU at its
// end.
//
//   driver → device → plug-in → libraries → build → toolkit → architecture
//
// A broken link is named with where it was looked for and what mends it. Immutable after Find:
// thread-safe; what it loaded stays loaded until the process ends.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/gpu_options.h"
#include "telemetry/status.h"

namespace muster {

struct GpuPlugin;

// Where things are looked for. `main` fills it in: see DefaultGpuSearch.
struct GpuSearch {
  std::string build_id;
  std::string plugin;                   // path of libmuster_cuda.so
  std::string driver = "libcuda.so.1";  // name or path
  std::string driver_version_file = "/proc/driver/nvidia/version";
  // For libraries that the loader does not find by itself: folders, or patterns of glob(3).
  std::vector<std::string> library_dirs;
};

// The plug-in beside the program that runs; CUDA's usual folders and Python's `nvidia` packages, of
// the system, the user's `home` and the virtual environment `venv`, either of which may be null.
GpuSearch DefaultGpuSearch(const std::string& build_id, const char* home, const char* venv);

struct GpuLink {
  std::string name;  // "driver"
  bool ok = false;
  std::string detail;  // "580.95.05, for CUDA up to 13.0"; or what is wrong
  std::string mend;    // what to do about it
};

class GpuChain {
 public:
  // Looks for GPU `index`. Without `all` the plug-in, whose libraries take a second to load, is not
  // looked for where the driver shows no GPU.
  static GpuChain Find(const GpuSearch& search, int index = 0, bool all = false);

  // In their order; without those that nothing can be said of because of others.
  const std::vector<GpuLink>& links() const { return links_; }
  // In short: "no usable GPU: driver: libcuda.so.1 is not there"; "" when all links hold.
  std::string broken() const;
  // OK when all links hold; else FailedPrecondition with the first broken one, and what mends it.
  absl::Status status() const;
  // GPUs that the driver shows.
  int count() const { return count_; }
  // The GPU. Fails as status does, and with what the device or its libraries say.
  absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const GpuOptions& options) const;

 private:
  struct Driver;

  const GpuLink* first_broken() const;
  void Add(std::string name, std::string detail);
  bool Break(std::string name, std::string what, std::string mend);  // false
  // Each adds its links; false when one is broken.
  bool FindDriver(const GpuSearch& search, int index);
  bool FindPlugin(const GpuSearch& search);
  bool FitToolkit();
  bool FitArchitecture();

  std::vector<GpuLink> links_;
  int count_ = 0;
  int driver_toolkit_ = 0;  // the latest that the driver is for, as GpuPlugin::toolkit
  int compute_ = 0;         // 90: compute 9.0
  const GpuPlugin* plugin_ = nullptr;
};

}  // namespace muster
