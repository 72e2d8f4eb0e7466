// Input: the bytes of one fuzz case, read as numbers. Every input means something, so that most
// mutations reach the code under test.
//
// Thread-compatible; borrows the bytes.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace muster::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : bytes_(data, size) {}

  bool empty() const { return bytes_.empty(); }
  // 0 at the end, as for the missing bytes of Number.
  uint8_t Byte() { return static_cast<uint8_t>(Number<uint8_t>()); }
  // In [0, n).
  int Below(int n) { return Byte() % n; }
  template <typename T>
  T Number() {
    T out = 0;
    const size_t n = std::min(sizeof(T), bytes_.size());
    if (n > 0) std::memcpy(&out, bytes_.data(), n);
    bytes_ = bytes_.subspan(n);
    return out;
  }
  std::span<const uint8_t> Rest() const { return bytes_; }

 private:
  std::span<const uint8_t> bytes_;
};

}  // namespace muster::fuzz
