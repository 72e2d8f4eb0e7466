// Pinned: memory of the host that stays where it is, so that a device's copies from and to it run
// beside everything else.
//
// Owned and used by one thread. Borrows memory and device, which outlive it.
#pragma once

#include <cstddef>

#include "kernels/device.h"

namespace muster {

class Pinned {
 public:
  // Where the system does not allow it, copies are slower, and no less right.
  Pinned(Device& device, void* memory, size_t bytes) : device_(device) {
    if (device.Pin(memory, bytes).ok()) memory_ = memory;
  }
  ~Pinned() {
    if (memory_ != nullptr) device_.Unpin(memory_);
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

 private:
  Device& device_;
  void* memory_ = nullptr;
};

}  // namespace muster
