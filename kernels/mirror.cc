#include "kernels/mirror.h"

#include <algorithm>
#include <utility>

#include "kernels/device_ops.h"

namespace muster {

void* Mirror::Place(const void* from, size_t bytes, void* back) {
  Device& device = stream_.device();
  if (device.host_memory()) return const_cast<void*>(from);
  const auto known = std::find_if(copies_.begin(), copies_.end(),
                                  [&](const Copy& copy) { return copy.from == from; });
  if (known != copies_.end()) {
    if (back != nullptr) known->back = back;
    return known->buffer.data<void>();
  }
  copies_.push_back({from, back, bytes, Buffer(device, bytes)});
  void* const to = copies_.back().buffer.data<void>();
  device.ops().Copy(stream_, to, from, bytes, CopyDirection::kHostToDevice);
  return to;
}

absl::Status Mirror::Finish() {
  for (const Copy& copy : std::exchange(copies_, {})) {
    if (copy.back != nullptr) {
      stream_.device().ops().Copy(stream_, copy.back, copy.buffer.data<void>(), copy.bytes,
                                  CopyDirection::kDeviceToHost);
    }
    // The buffer goes at the end of this round.
    RETURN_IF_ERROR(stream_.Synchronize());
  }
  return stream_.Synchronize();
}

}  // namespace muster
