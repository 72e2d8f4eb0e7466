// Mirror: arrays of the host, in a device's memory while ops run on them.
//
//   Mirror on(stream);
//   Axpy(stream, 2, on.In(x, shape), on.Out(y, shape));
//   absl::Status status = on.Finish();  // y is on the host
//
// Where the device's memory is the host's, it hands out the arrays themselves. Used by one thread;
// borrows the arrays, which live until Finish, and owns the device's memory.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "kernels/tensor.h"
#include "telemetry/status.h"

namespace muster {

class Mirror {
 public:
  explicit Mirror(Stream& stream) : stream_(stream) {}

  // The array as it is now. PRECONDITION: as many elements as the shape has.
  template <typename T>
  ConstTensor In(const std::vector<T>& array, Shape shape) {
    CHECK_EQ(static_cast<int64_t>(array.size()), shape.size());
    return {static_cast<const T*>(Place(array.data(), array.size() * sizeof(T), nullptr)), shape};
  }
  // The same, of elements that no tensor has.
  template <typename T>
  const void* Bytes(const std::vector<T>& array) {
    return Place(array.data(), array.size() * sizeof(T), nullptr);
  }
  // As In, and Finish brings it back. The same array twice is the same memory.
  template <typename T>
  Tensor Out(std::vector<T>& array, Shape shape) {
    CHECK_EQ(static_cast<int64_t>(array.size()), shape.size());
    return {static_cast<T*>(Place(array.data(), array.size() * sizeof(T), array.data())), shape};
  }
  // Waits for the stream, and brings back what Out handed out. Fails when the device does.
  absl::Status Finish();

 private:
  struct Copy {
    const void* from;  // on the host
    void* back;        // null: stays where it is
    size_t bytes;
    Buffer buffer;
  };
  void* Place(const void* from, size_t bytes, void* back);

  Stream& stream_;
  std::vector<Copy> copies_;
};

}  // namespace muster
