// Outbox: bytes that wait for a descriptor that does not block. Owned by one thread; borrows the
// descriptor.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

namespace muster::cluster {

class Outbox {
 public:
  bool empty() const { return written_ == bytes_.size(); }
  size_t size() const { return bytes_.size() - written_; }
  void Add(std::string_view bytes) { bytes_ += bytes; }
  void Clear() {
    bytes_.clear();
    written_ = 0;
  }

  // Writes what `fd` takes. False when the other end is gone.
  bool Write(int fd) {
    while (!empty()) {
      const ssize_t n = write(fd, bytes_.data() + written_, size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno == EAGAIN;
      written_ += static_cast<size_t>(n);
    }
    Clear();
    return true;
  }

 private:
  std::string bytes_;
  size_t written_ = 0;
};

}  // namespace muster::cluster
