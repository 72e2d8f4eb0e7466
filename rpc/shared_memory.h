// SharedMemory: bytes that several processes of one host map. A memfd: it has no name, and is gone
// with its last user, however that ends.
//
// Immutable but for its bytes: thread-safe. Owns the mapping and the file descriptor. Sizes in
// bytes.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "telemetry/status.h"

namespace muster::rpc {

class SharedMemory {
 public:
  // New memory, all zero, readable and writable here. Sealed: it neither shrinks nor grows, and who
  // gets the descriptor may only read. Fails when the system has none left.
  static absl::StatusOr<std::shared_ptr<SharedMemory>> Create(size_t size);

  // Maps another process's memory for reading; takes `fd`, also on failure. Refuses a descriptor
  // that is not sealed as Create does it (its owner could cut it off under a reader) or not of
  // `size`.
  static absl::StatusOr<std::shared_ptr<SharedMemory>> Map(int fd, size_t size);

  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  std::span<std::byte> bytes() const { return {data_, size_}; }  // not to be written after Map
  int fd() const { return fd_; }

 private:
  SharedMemory(int fd, std::byte* data, size_t size) : fd_(fd), data_(data), size_(size) {}
  static absl::StatusOr<std::shared_ptr<SharedMemory>> MapAs(int fd, size_t size, int protection);

  const int fd_;
  std::byte* const data_;
  const size_t size_;
};

}  // namespace muster::rpc
