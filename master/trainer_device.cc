#include "master/trainer_device.h"

#include <fmt/format.h>

#include <utility>

namespace muster::master {
namespace {

TrainerDevice OnCpu(int threads, const std::string& why) {
  TrainerDevice made;
  made.device = MakeCpuDevice(threads);
  made.description = fmt::format("{}: {} thread{}{}", made.device->name(), threads,
                                 threads == 1 ? "" : "s", why.empty() ? "" : " (" + why + ")");
  return made;
}

}  // namespace

absl::StatusOr<TrainerDevice> MakeTrainerDevice(Training::Device device,
                                                Training::Precision precision, int threads,
                                                const GpuSearch& search) {
  if (device == Training::CPU) return OnCpu(threads, "");
  const GpuChain chain = GpuChain::Find(search);
  absl::StatusOr<std::unique_ptr<Device>> gpu = chain.MakeDevice(
      {.index = 0,
       .precision = precision == Training::FP32 ? GpuPrecision::kFloat32 : GpuPrecision::kTf32});
  if (gpu.ok()) {
    TrainerDevice made;
    made.device = *std::move(gpu);
    made.description = fmt::format("{}: {}", made.device->name(), made.device->description());
    made.loader_threads = threads;
    return made;
  }
  if (device == Training::GPU) return gpu.status();
  const std::string broken = chain.broken();
  TrainerDevice made = OnCpu(threads, broken.empty() ? "no usable GPU" : broken);
  made.warning = fmt::format("training on the CPU: {}", std::string(gpu.status().message()));
  return made;
}

}  // namespace muster::master
