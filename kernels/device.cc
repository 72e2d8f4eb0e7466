#include "kernels/device.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>

#include "kernels/device_ops.h"
#include "telemetry/check.h"
#include "telemetry/fatal.h"

namespace muster {

std::string Shape::ToString() const { return fmt::format("[{}]", fmt::join(ToVector(), ", ")); }

int DropoutArgs::keep_of_256() const {
  CHECK_GE(rate, 0);
  CHECK_LT(rate, 1);
  const int keep = static_cast<int>(std::lround(256 * (1 - rate)));
  return keep < 1 ? 1 : keep;
}

Buffer::Buffer(Device& device, size_t bytes) : device_(&device), bytes_(bytes) {
  absl::StatusOr<void*> memory = device.Allocate(bytes);
  if (!memory.ok()) Fatal(memory.status());
  data_ = *memory;
}

absl::StatusOr<Buffer> Buffer::Make(Device& device, size_t bytes) {
  Buffer buffer;
  ASSIGN_OR_RETURN(buffer.data_, device.Allocate(bytes));
  buffer.device_ = &device;
  buffer.bytes_ = bytes;
  return buffer;
}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    Reset();
    device_ = std::exchange(other.device_, nullptr);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
  }
  return *this;
}

void Buffer::Reset() {
  if (data_ != nullptr) device_->Free(data_, bytes_);
  data_ = nullptr;
}

}  // namespace muster
