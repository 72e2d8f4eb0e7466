// The devices that a trainer computes on: the GPUs that the job asks for, or the CPU, and why.
//
// Free functions, thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "configs/job.pb.h"
#include "kernels/communicator.h"
#include "kernels/device.h"
#include "kernels/gpu.h"
#include "telemetry/status.h"

namespace muster::master {

struct TrainerDevice {
  std::vector<std::unique_ptr<Device>> devices;  // at least one; alike
  std::unique_ptr<Communicator> communicator;    // between them; null for one
  // "/gpu:0: NVIDIA H200, 139 GiB, …"; "/gpu:0 to /gpu:3: NVIDIA H200, …"; "/cpu:0: 2 threads (no
  // usable GPU: driver: …)": the first line of the role's log, and what state and report show.
  std::string description;
  std::string warning;  // not empty: AUTO fell back to the CPU, or to one GPU, for this reason
  // That make its batches ahead: on GPUs all those that would else compute.
  int loader_threads = 1;
  GpuPrecision precision = GpuPrecision::kTf32;  // of GPUs

  // What the bits of its results depend on: "2 threads, avx512_core", "NVIDIA H200, TF32", "4 x
  // NVIDIA H200, BF16".
  std::string kind() const;
};

// CPU: `threads` of it. GPU: those of `claim`; fails with the link of the chain (kernels/gpu.h)
// that is broken. AUTO: the same where they can be used, else one GPU, else the CPU. `options` but
// for the index.
absl::StatusOr<TrainerDevice> MakeTrainerDevice(Training::Device device, const GpuOptions& options,
                                                int threads, const GpuClaim& claim,
                                                const GpuSearch& search);

// What a job says of its GPUs, whichever they are.
GpuOptions GpuOptionsOf(Training::Precision precision, bool cuda_graphs);

}  // namespace muster::master
