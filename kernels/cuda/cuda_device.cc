#include "kernels/cuda/cuda_device.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/nccl_library.h"
#include "kernels/gpu_plugin.h"

namespace muster::gpu {
namespace {

std::string Nccl() {
  const auto nccl = NcclLibrary::Load();
  return nccl.ok() ? "NCCL " + nccl->Version() : "no NCCL";
}

// Of the kernel module, or, in a container that does not show it, what it is for.
std::string Driver() {
  const std::string module = DriverVersion("/proc/driver/nvidia/version");
  if (!module.empty()) return module;
  int version = 0;
  cudaDriverGetVersion(&version);
  return fmt::format("for CUDA {}.{}", version / 1000, version % 1000 / 10);
}

std::string Describe(const cudaDeviceProp& device) {
  int toolkit = 0;
  cudaRuntimeGetVersion(&toolkit);
  const size_t dnn = cudnnGetVersion();
  return fmt::format("{}, {} GiB, compute {}.{}, driver {}, CUDA {}.{}, cuDNN {}.{}, {}",
                     device.name, device.totalGlobalMem >> 30, device.major, device.minor, Driver(),
                     toolkit / 1000, toolkit % 1000 / 10, dnn / 10000, dnn % 10000 / 100, Nccl());
}

class CudaDevice final : public Device {
 public:
  CudaDevice(const GpuOptions& options, const cudaDeviceProp& device)
      : index_(options.index),
        graphs_(options.graphs),
        description_(Describe(device)),
        model_(device.name) {}

  absl::Status Start(const GpuOptions& options) {
    ASSIGN_OR_RETURN(ops_, MakeCudaOps(*this, options));
    return absl::OkStatus();
  }

  std::string name() const override { return fmt::format("/gpu:{}", index_); }
  std::string description() const override { return description_; }
  std::string model() const override { return model_; }
  int threads() const override { return 1; }
  bool host_memory() const override { return false; }
  DeviceOps& ops() override { return *ops_; }
  std::unique_ptr<Stream> MakeStream() override {
    return std::make_unique<CudaStream>(*this, index_, graphs_);
  }
  std::unique_ptr<Event> MakeEvent() override { return std::make_unique<CudaEvent>(index_); }

  absl::StatusOr<void*> Allocate(size_t bytes) override {
    cudaSetDevice(index_);
    void* memory = nullptr;
    const size_t rounded = std::max<size_t>(bytes, 256);
    RETURN_IF_ERROR(ToStatus(cudaMalloc(&memory, rounded),
                             fmt::format("allocate another {:.1f} MiB on {}",
                                         static_cast<double>(rounded) / (1 << 20), name())));
    if (const cudaError_t error = cudaMemset(memory, 0, rounded); error != cudaSuccess) {
      cudaFree(memory);
      return ToStatus(error, "clear memory on " + name());
    }
    // Streams of ours do not wait for the default one, on which this ran.
    RETURN_IF_ERROR(ToStatus(cudaDeviceSynchronize(), "clear memory on " + name()));
    return memory;
  }
  void Free(void* memory, size_t) override {
    cudaSetDevice(index_);
    ++frees_;
    cudaFree(memory);
  }
  int64_t frees() const override { return frees_; }

  absl::Status Pin(void* memory, size_t bytes) override {
    cudaSetDevice(index_);
    return ToStatus(cudaHostRegister(memory, bytes, cudaHostRegisterPortable),
                    fmt::format("pin {} bytes of the host for {}", bytes, name()));
  }
  void Unpin(void* memory) override { cudaHostUnregister(memory); }

 private:
  const int index_;
  const bool graphs_;
  std::atomic<int64_t> frees_{0};
  const std::string description_;
  const std::string model_;
  std::unique_ptr<DeviceOps> ops_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(const GpuOptions& options) {
  cudaDeviceProp properties = {};
  RETURN_IF_ERROR(ToStatus(cudaGetDeviceProperties(&properties, options.index),
                           fmt::format("look at /gpu:{}", options.index)));
  RETURN_IF_ERROR(
      ToStatus(cudaSetDevice(options.index), fmt::format("use /gpu:{}", options.index)));
  auto device = std::make_unique<CudaDevice>(options, properties);
  RETURN_IF_ERROR(device->Start(options));
  return device;
}

}  // namespace muster::gpu
