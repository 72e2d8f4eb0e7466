#include "master/trainer_device.h"

#include <fmt/format.h>

#include <utility>

namespace muster::master {
namespace {

TrainerDevice OnCpu(int threads, const std::string& why) {
  TrainerDevice made;
  made.devices.push_back(MakeCpuDevice(threads));
  made.description = fmt::format("{}: {} thread{}{}", made.devices[0]->name(), threads,
                                 threads == 1 ? "" : "s", why.empty() ? "" : " (" + why + ")");
  return made;
}

absl::StatusOr<TrainerDevice> OnGpus(const GpuChain& chain, GpuOptions options, int threads) {
  RETURN_IF_ERROR(chain.status());
  TrainerDevice made;
  made.loader_threads = threads;
  made.precision = options.precision;
  for (const int index : chain.gpus()) {
    options.index = index;
    ASSIGN_OR_RETURN(auto gpu, chain.MakeDevice(options));
    made.devices.push_back(std::move(gpu));
  }
  if (made.devices.size() > 1) {
    ASSIGN_OR_RETURN(made.communicator, chain.MakeCommunicator());
  }
  made.description =
      fmt::format("{}: {}", GpuNames(chain.gpus()), made.devices.front()->description());
  return made;
}

}  // namespace

std::string TrainerDevice::kind() const {
  const Device& device = *devices.front();
  if (device.model() == "cpu") return device.description();
  const std::string several = devices.size() == 1 ? "" : fmt::format("{} x ", devices.size());
  return fmt::format("{}{}, {}", several, device.model(), NameOf(precision));
}

GpuOptions GpuOptionsOf(Training::Precision precision, bool cuda_graphs) {
  GpuOptions options{.graphs = cuda_graphs};
  if (precision == Training::FP32) options.precision = GpuPrecision::kFloat32;
  if (precision == Training::BF16) options.precision = GpuPrecision::kBf16;
  return options;
}

absl::StatusOr<TrainerDevice> MakeTrainerDevice(Training::Device device, const GpuOptions& options,
                                                int threads, const GpuClaim& claim,
                                                const GpuSearch& search) {
  if (device == Training::CPU) return OnCpu(threads, "");
  const GpuChain chain = GpuChain::Find(search, claim);
  absl::StatusOr<TrainerDevice> gpus = OnGpus(chain, options, threads);
  if (gpus.ok() || device == Training::GPU) return gpus;
  const std::string reason(gpus.status().message());
  if (chain.gpus().size() > 1) {
    GpuClaim one = claim;
    one.wanted = 1;
    if (auto gpu = OnGpus(GpuChain::Find(search, one), options, threads); gpu.ok()) {
      gpu->warning =
          fmt::format("training on one GPU instead of {}: {}", chain.gpus().size(), reason);
      return gpu;
    }
  }
  const std::string broken = chain.broken();
  TrainerDevice made = OnCpu(threads, broken.empty() ? "no usable GPU" : broken);
  made.warning = fmt::format("training on the CPU: {}", reason);
  return made;
}

}  // namespace muster::master
