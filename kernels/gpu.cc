#include "kernels/gpu.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <glob.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <numeric>
#include <string_view>

#include "kernels/gpu_plugin.h"

namespace muster {
namespace {

// 13000 → "13.0"
std::string ToolkitName(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

// 90 → "9.0"
std::string ComputeName(int compute) { return fmt::format("{}.{}", compute / 10, compute % 10); }

std::vector<std::string> Expand(const std::string& pattern) {
  std::vector<std::string> paths;
  glob_t found = {};
  if (glob(pattern.c_str(), 0, nullptr, &found) == 0) {
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  }
  globfree(&found);
  return paths;
}

// "libcudnn.so.9" of "libcudnn.so.9: cannot open shared object file: No such file or directory".
std::string MissingLibrary(const std::string& error) {
  const size_t colon = error.find(": cannot open shared object file");
  return colon == std::string::npos ? "" : error.substr(0, colon);
}

// Opens `name` in one of the folders, for all that is opened later to find. "" when it is nowhere;
// else its path, or why it could not be opened.
struct Opened {
  void* handle = nullptr;
  std::string path;
  std::string error;
};
Opened OpenIn(const std::vector<std::string>& dirs, const std::string& name) {
  Opened opened;
  for (const std::string& pattern : dirs) {
    for (const std::string& path : Expand(pattern + "/" + name)) {
      opened.path = path;
      opened.handle = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
      if (opened.handle != nullptr) return opened;
      const char* error = dlerror();
      opened.error = error == nullptr ? "unknown" : error;
    }
  }
  return opened;
}

// Where OpenIn looks.
std::string Places(const std::vector<std::string>& dirs) {
  return fmt::format(
      "it was looked for where the system's loader looks (LD_LIBRARY_PATH, ldconfig) "
      "and in {}",
      fmt::join(dirs, ", "));
}

// Whether code for "75 80 90+ptx" runs on a GPU of `compute`: that of the same major version and no
// later minor one, and, by translation, whatever has a form for that and is not later.
bool Runs(std::string_view architectures, int compute) {
  while (!architectures.empty()) {
    const size_t space = architectures.find(' ');
    const std::string_view one = architectures.substr(0, space);
    architectures =
        space == std::string_view::npos ? std::string_view() : architectures.substr(space + 1);
    int built = 0;
    std::from_chars(one.data(), one.data() + one.size(), built);
    if (built <= compute && (built / 10 == compute / 10 || one.ends_with("+ptx"))) return true;
  }
  return false;
}

}  // namespace

GpuSearch DefaultGpuSearch(const std::string& build_id, const char* home, const char* venv) {
  GpuSearch search;
  search.build_id = build_id;
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::string program_dir = error ? "." : self.parent_path().string();
  search.plugin = program_dir + "/libmuster_cuda.so";
  search.library_dirs = {program_dir, "/usr/local/cuda/lib64", "/usr/local/cuda-*/lib64",
                         "/opt/cuda/lib64"};
  std::vector<std::string> pythons = {"/usr/lib/python3*/*-packages", "/usr/lib/python3/*-packages",
                                      "/usr/local/lib/python3*/*-packages"};
  if (venv != nullptr) {
    pythons.insert(pythons.begin(), std::string(venv) + "/lib/python3*/site-packages");
  }
  if (home != nullptr) {
    pythons.push_back(std::string(home) + "/.local/lib/python3*/site-packages");
    pythons.push_back(std::string(home) + "/.pyenv/versions/*/lib/python3*/site-packages");
  }
  for (const std::string& packages : pythons) {
    search.library_dirs.push_back(packages + "/nvidia/*/lib");
  }
  return search;
}

// The few functions of the driver that tell what is there, by the types of its C interface.
struct GpuChain::Driver {
  int (*init)(unsigned flags) = nullptr;
  int (*version)(int* version) = nullptr;
  int (*count)(int* count) = nullptr;
  int (*get)(int* device, int ordinal) = nullptr;
  int (*name)(char* name, int size, int device) = nullptr;
  int (*attribute)(int* value, int attribute, int device) = nullptr;

  template <class F>
  static bool Load(void* library, const char* symbol, F*& function) {
    function = reinterpret_cast<F*>(dlsym(library, symbol));
    return function != nullptr;
  }
  bool LoadAll(void* library) {
    return Load(library, "cuInit", init) && Load(library, "cuDriverGetVersion", version) &&
           Load(library, "cuDeviceGetCount", count) && Load(library, "cuDeviceGet", get) &&
           Load(library, "cuDeviceGetName", name) &&
           Load(library, "cuDeviceGetAttribute", attribute);
  }
};

std::string GpuNames(const std::vector<int>& gpus) {
  std::string names = fmt::format("/gpu:{}", gpus.front());
  if (gpus.size() > 1) names += fmt::format(" to /gpu:{}", gpus.back());
  return names;
}

std::vector<int> GpusOf(const GpuClaim& claim, int count) {
  const int processes = std::max(1, claim.processes), stride = std::max(1, count / processes);
  std::vector<int> gpus(static_cast<size_t>(std::clamp(claim.wanted, 1, stride)));
  std::iota(gpus.begin(), gpus.end(), claim.process * stride % count);
  return gpus;
}

GpuChain GpuChain::Find(const GpuSearch& search, const GpuClaim& claim, bool all) {
  GpuChain chain;
  const bool gpu = chain.FindDriver(search, claim);
  if (!gpu && !all) return chain;
  const bool plugin = chain.FindPlugin(search);
  if (gpu && plugin && chain.FitToolkit() && chain.FitArchitecture()) chain.FindNccl(search);
  return chain;
}

const GpuLink* GpuChain::first_broken() const {
  const auto found =
      std::find_if(links_.begin(), links_.end(), [](const GpuLink& l) { return !l.ok; });
  return found == links_.end() ? nullptr : &*found;
}

std::string GpuChain::broken() const {
  const GpuLink* link = first_broken();
  return link == nullptr ? "" : fmt::format("no usable GPU: {}: {}", link->name, link->detail);
}

absl::Status GpuChain::status() const {
  const GpuLink* link = first_broken();
  if (link == nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format("{}: {}", broken(), link->mend));
}

absl::StatusOr<std::unique_ptr<Device>> GpuChain::MakeDevice(const GpuOptions& options) const {
  RETURN_IF_ERROR(status());
  if (options.precision == GpuPrecision::kBf16 && !has_bf16()) {
    return absl::FailedPreconditionError(fmt::format(
        "no usable GPU: precision: /gpu:{} is of compute {}, and bfloat16 begins with 8.0: write "
        "training.precision: FP32, or TF32, which is the same there",
        options.index, ComputeName(compute_)));
  }
  return plugin_->make_device(options);
}

absl::StatusOr<std::unique_ptr<Communicator>> GpuChain::MakeCommunicator() const {
  RETURN_IF_ERROR(status());
  return plugin_->make_communicator(gpus_);
}

void GpuChain::Add(std::string name, std::string detail) {
  links_.push_back({std::move(name), true, std::move(detail), ""});
}

bool GpuChain::Break(std::string name, std::string what, std::string mend) {
  links_.push_back({std::move(name), false, std::move(what), std::move(mend)});
  return false;
}

bool GpuChain::FindDriver(const GpuSearch& search, const GpuClaim& claim) {
  constexpr int kNoDevice = 100, kMajor = 75, kMinor = 76;  // CUDA_ERROR_, CU_DEVICE_ATTRIBUTE_
  void* const library = dlopen(search.driver.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    return Break(
        "driver", search.driver + " is not there",
        "install NVIDIA's driver; in a container, start it with the GPU (docker run --gpus "
        "all)");
  }
  Driver driver;
  if (!driver.LoadAll(library) || driver.version(&driver_toolkit_) != 0) {
    return Break("driver", search.driver + " is no NVIDIA driver that Muster knows",
                 "install NVIDIA's driver");
  }
  const std::string module = DriverVersion(search.driver_version_file);
  const std::string about = fmt::format("{}{}for CUDA up to {}", module, module.empty() ? "" : ", ",
                                        ToolkitName(driver_toolkit_));
  const int error = driver.init(0);
  if (error != 0 && error != kNoDevice) {
    return Break("driver", fmt::format("{}: it does not start (error {})", about, error),
                 "nvidia-smi says more; loading the kernel module (modprobe nvidia), or a restart "
                 "after an upgrade, helps");
  }
  Add("driver", about);
  if (error == kNoDevice || driver.count(&count_) != 0 || count_ == 0) {
    count_ = 0;
    return Break("device", "the driver shows no GPU",
                 "nvidia-smi lists them; CUDA_VISIBLE_DEVICES may hide them");
  }
  gpus_ = GpusOf(claim, count_);
  std::string kind;
  for (const int index : gpus_) {
    int device = 0, major = 0, minor = 0;
    char name[128] = {};
    if (driver.get(&device, index) != 0 || driver.name(name, sizeof(name) - 1, device) != 0 ||
        driver.attribute(&major, kMajor, device) != 0 ||
        driver.attribute(&minor, kMinor, device) != 0) {
      return Break("device", fmt::format("the driver does not describe /gpu:{}", index),
                   "nvidia-smi says more");
    }
    compute_ = 10 * major + minor;
    const std::string its = fmt::format("{}, compute {}", name, ComputeName(compute_));
    if (index != gpus_.front() && its != kind) {
      return Break(
          "device",
          fmt::format("/gpu:{} is {}, and /gpu:{} is {}", gpus_.front(), kind, index, its),
          "the GPUs of a process are of one kind: CUDA_VISIBLE_DEVICES chooses among them");
    }
    kind = its;
  }
  Add("device", fmt::format("{}: {}", GpuNames(gpus_), kind));
  return true;
}

bool GpuChain::FindPlugin(const GpuSearch& search) {
  if (access(search.plugin.c_str(), R_OK) != 0) {
    return Break(
        "plug-in", search.plugin + " is not there",
        "this build was made without a CUDA toolkit: ./dev build with nvcc in the PATH and "
        "cuDNN makes it");
  }
  std::vector<std::string> found;
  void* library = nullptr;
  // Each round brings the library that the last one missed.
  while ((library = dlopen(search.plugin.c_str(), RTLD_NOW | RTLD_LOCAL)) == nullptr) {
    const char* text = dlerror();
    const std::string error = text == nullptr ? "unknown" : text;
    const std::string missing = MissingLibrary(error);
    if (missing.empty() || missing == search.plugin ||
        std::find(found.begin(), found.end(), missing) != found.end()) {
      return Break("plug-in", fmt::format("{} does not load: {}", search.plugin, error),
                   "build it again on this machine, or install what it lacks");
    }
    const Opened opened = OpenIn(search.library_dirs, missing);
    if (opened.handle == nullptr) {
      Add("plug-in", search.plugin);
      if (!opened.path.empty()) {
        return Break("libraries", fmt::format("{} does not load: {}", opened.path, opened.error),
                     "install it again");
      }
      return Break("libraries", missing + " was not found",
                   "the CUDA toolkit, cuDNN's packages, or Python's nvidia-* packages bring it; " +
                       Places(search.library_dirs));
    }
    found.push_back(missing);
  }
  Add("plug-in", search.plugin);
  Add("libraries",
      found.empty() ? "found by the system's loader" : fmt::format("{}", fmt::join(found, ", ")));
  const auto get = reinterpret_cast<const GpuPlugin* (*)()>(dlsym(library, kGpuPluginSymbol));
  if (get == nullptr) {
    return Break("build", search.plugin + " is no plug-in of Muster", "build them together");
  }
  plugin_ = get();
  if (plugin_->build_id != search.build_id) {
    return Break("build",
                 fmt::format("{} is of build {}, and this program of build {}", search.plugin,
                             plugin_->build_id, search.build_id),
                 "build them together");
  }
  Add("build", search.build_id);
  return true;
}

bool GpuChain::FitToolkit() {
  const int major = plugin_->toolkit / 1000;
  if (driver_toolkit_ / 1000 < major) {
    return Break("toolkit",
                 fmt::format("the driver is for CUDA up to {}, and the plug-in was built with {}",
                             ToolkitName(driver_toolkit_), ToolkitName(plugin_->toolkit)),
                 fmt::format("install driver {} or later", major >= 13 ? 580 : 525));
  }
  Add("toolkit", "CUDA " + ToolkitName(plugin_->toolkit));
  return true;
}

bool GpuChain::FitArchitecture() {
  if (!Runs(plugin_->architectures, compute_)) {
    return Break("architecture",
                 fmt::format("the GPU is of compute {}, and the plug-in has code for {}",
                             ComputeName(compute_), plugin_->architectures),
                 fmt::format("build it with -DCMAKE_CUDA_ARCHITECTURES={} and a toolkit that knows "
                             "the GPU (CUDA 13 begins at 7.5, CUDA 12 at 5.0)",
                             compute_));
  }
  Add("architecture", plugin_->architectures);
  return true;
}

bool GpuChain::FindNccl(const GpuSearch& search) {
  std::string from = "found by the system's loader";
  void* library = dlopen(search.nccl.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    const Opened opened = OpenIn(search.library_dirs, search.nccl);
    if (opened.handle == nullptr) {
      const std::string what = opened.path.empty()
                                   ? search.nccl + " was not found"
                                   : fmt::format("{} does not load: {}", opened.path, opened.error);
      if (gpus_.size() == 1) {
        Add("NCCL", what + "; one GPU does without");
        return true;
      }
      return Break("NCCL", what,
                   "several GPUs in one process need it, and one does without; NVIDIA's package "
                   "libnccl2 or Python's nvidia-nccl packages bring it; " +
                       Places(search.library_dirs));
    }
    library = opened.handle;
    from = opened.path;
  }
  const auto get = reinterpret_cast<int (*)(int*)>(dlsym(library, "ncclGetVersion"));
  int version = 0;
  if (get == nullptr || get(&version) != 0) {
    return Break("NCCL", search.nccl + " is no NCCL", "install it again");
  }
  Add("NCCL",
      fmt::format("{}.{}.{}, {}", version / 10000, version % 10000 / 100, version % 100, from));
  return true;
}

}  // namespace muster
