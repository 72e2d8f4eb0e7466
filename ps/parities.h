// Parities: the bytes that readers are answered with, in two buffers: one holds the newest version,
// the other the one before, which the next version overwrites. Who says when that may happen:
//
//   in place   the protocol (invariant 1 of ps/slice.h); the payload only borrows
//   lent       the reader, by dropping the payload (rpc::Payload::Lend). A version that
//              comes before that takes another buffer for the parity; it is used again when
//              it has come back.
//
// For one thread, the shard's; loans end on whatever thread drops the payload. Owns the buffers.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "rpc/message.h"

namespace muster::ps {

class Parities {
 public:
  using Allocate = std::function<std::shared_ptr<std::byte[]>()>;
  Parities() = default;  // without buffers
  // Buffers of `bytes` bytes from `allocate`, cleared.
  Parities(size_t bytes, Allocate allocate);

  std::span<std::byte> operator[](int parity) const {
    return {buffers_[parity].bytes.get(), bytes_};
  }
  // All bytes of `parity`.
  rpc::Payload Answer(int parity, bool in_place) const;
  // Before `parity` is written for a new version; what was in it is lost.
  void Renew(int parity);

 private:
  struct Buffer {
    std::shared_ptr<std::byte[]> bytes;
    std::shared_ptr<std::atomic<int>> loans;  // that are out
    // When not, what was read of it happened before.
    bool lent() const { return loans->load(std::memory_order_acquire) > 0; }
  };
  Buffer Make() const;

  size_t bytes_ = 0;
  Allocate allocate_;
  Buffer buffers_[2];
  std::vector<Buffer> spares_;  // that another one took the parity of
};

}  // namespace muster::ps
