// CheckCommunicator: runs each operation of a communicator once, and compares with plain sums.
//
// A free function, for one thread at a time.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/communicator.h"
#include "kernels/device.h"
#include "kernels/device_check.h"

namespace muster {

// `devices` are the ranks. Sums are of small integers, so that every order gives the same bits.
std::vector<OpCheck> CheckCommunicator(std::span<const std::unique_ptr<Device>> devices,
                                       Communicator& communicator);

}  // namespace muster
