// NcclCommunicator: GPUs of this process as the ranks of NCCL.
//
// A free function, thread-safe; see Communicator for what it makes.
#pragma once

#include <memory>
#include <span>

#include "kernels/communicator.h"
#include "telemetry/status.h"

namespace muster::gpu {

// Of the GPUs with these indices, which are different; their streams are CudaStreams. Takes some
// seconds. Fails with what NCCL says, or when it is not there.
absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(std::span<const int> gpus);

}  // namespace muster::gpu
