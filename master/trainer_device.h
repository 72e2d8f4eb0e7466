// The device that a trainer computes on: the GPU that the job asks for, or the CPU, and why.
//
// A free function, thread-safe.
#pragma once

#include <memory>
#include <string>

#include "kernels/device.h"
#include "kernels/gpu.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::master {

struct TrainerDevice {
  std::unique_ptr<Device> device;
  // "/gpu:0: NVIDIA H200, 139 GiB, …"; "/cpu:0: 2 threads (no usable GPU: driver: …)": the first
  // line of the role's log, and what state and report show.
  std::string description;
  std::string warning;  // not empty: AUTO fell back to the CPU, for this reason
  // That make its batches ahead: on a GPU all those that would else compute.
  int loader_threads = 1;
};

// CPU: `threads` of it. GPU: fails with the link of the chain (kernels/gpu.h) that is broken. AUTO:
// the GPU when there is one, else the CPU.
absl::StatusOr<TrainerDevice> MakeTrainerDevice(Training::Device device,
                                                Training::Precision precision, int threads,
                                                const GpuSearch& search);

}  // namespace muster::master
