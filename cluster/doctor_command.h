// `launch doctor`: whether this machine's GPU can be used, link by link, and whether it computes
// what the CPU does.
//
// A free function, thread-safe.
#pragma once

#include "cluster/command.h"
#include "kernels/gpu.h"

namespace muster::cluster {

// Prints the chain, then each op's difference from the CPU, and NCCL's from plain sums. 0 when all
// of it holds; kJobFailed when a link is broken, or something gives something else.
int RunDoctorCommand(const CommandContext& context, const GpuSearch& search);

}  // namespace muster::cluster
