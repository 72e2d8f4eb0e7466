#include <cuda_runtime_api.h>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/nccl_communicator.h"
#include "kernels/gpu_plugin.h"
#include "telemetry/build_id.h"

extern "C" __attribute__((visibility("default"))) const muster::GpuPlugin* muster_gpu_plugin() {
  static const muster::GpuPlugin plugin = {muster::BuildId(), CUDART_VERSION,
                                           MUSTER_CUDA_ARCHITECTURES, &muster::gpu::MakeCudaDevice,
                                           &muster::gpu::MakeNcclCommunicator};
  return &plugin;
}
