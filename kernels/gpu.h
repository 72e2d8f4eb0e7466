// GpuChain: everything that has to be there before a GPU computes, link by link, and the GPUs at
// its end.
//
//   driver → device → plug-in → libraries → build → toolkit → architecture → NCCL
//
// The last one breaks for several GPUs in one process only: one does without.
//
// A broken link is named with where it was looked for and what mends it. Immutable after Find:
// thread-safe; what it loaded stays loaded until the process ends.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/communicator.h"
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
  std::string nccl = "libnccl.so.2";  // name or path
  // For libraries that the loader does not find by itself: folders, or patterns of glob(3).
  std::vector<std::string> library_dirs;
};

// The plug-in beside the program that runs; CUDA's usual folders and Python's `nvidia` packages, of
// the system, the user's `home` and the virtual environment `venv`, either of which may be null.
GpuSearch DefaultGpuSearch(const std::string& build_id, const char* home, const char* venv);

// How many GPUs a process would compute on, and among how many processes this machine's are shared.
struct GpuClaim {
  int wanted = 1;
  int process = 0, processes = 1;  // this one's place among them
};
// Their indices, of `count` that there are: neighbours, as many as wanted, or as each of the
// processes can have to itself, but at least one: then some share one. PRECONDITION: count >= 1.
std::vector<int> GpusOf(const GpuClaim& claim, int count);
// "/gpu:0"; "/gpu:0 to /gpu:3". PRECONDITION: neighbours, at least one.
std::string GpuNames(const std::vector<int>& gpus);

struct GpuLink {
  std::string name;  // "driver"
  bool ok = false;
  std::string detail;  // "580.95.05, for CUDA up to 13.0"; or what is wrong
  std::string mend;    // what to do about it
};

class GpuChain {
 public:
  // Looks for the GPUs of `claim`. Without `all` the plug-in, whose libraries take a second to
  // load, is not looked for where the driver shows no GPU.
  static GpuChain Find(const GpuSearch& search, const GpuClaim& claim = {}, bool all = false);

  // In their order; without those that nothing can be said of because of others.
  const std::vector<GpuLink>& links() const { return links_; }
  // In short: "no usable GPU: driver: libcuda.so.1 is not there"; "" when all links hold.
  std::string broken() const;
  // OK when all links hold; else FailedPrecondition with the first broken one, and what mends it.
  absl::Status status() const;
  // GPUs that the driver shows.
  int count() const { return count_; }
  // Indices of those that were claimed; empty when there is none.
  const std::vector<int>& gpus() const { return gpus_; }
  // Whether the GPUs compute in bfloat16.
  bool has_bf16() const { return compute_ >= 80; }
  // A GPU. Fails as status does, with what the device or its libraries say, and where it has not
  // the precision.
  absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const GpuOptions& options) const;
  // Between gpus(), in their order. Fails likewise.
  absl::StatusOr<std::unique_ptr<Communicator>> MakeCommunicator() const;

 private:
  struct Driver;

  const GpuLink* first_broken() const;
  void Add(std::string name, std::string detail);
  bool Break(std::string name, std::string what, std::string mend);  // false
  // Each adds its links; false when one is broken.
  bool FindDriver(const GpuSearch& search, const GpuClaim& claim);
  bool FindPlugin(const GpuSearch& search);
  bool FitToolkit();
  bool FitArchitecture();
  bool FindNccl(const GpuSearch& search);

  std::vector<GpuLink> links_;
  int count_ = 0;
  std::vector<int> gpus_;
  int driver_toolkit_ = 0;  // the latest that the driver is for, as GpuPlugin::toolkit
  int compute_ = 0;         // 90: compute 9.0
  const GpuPlugin* plugin_ = nullptr;
};

}  // namespace muster
