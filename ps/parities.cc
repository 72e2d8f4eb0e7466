#include "ps/parities.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace muster::ps {

Parities::Parities(size_t bytes, Allocate allocate)
    : bytes_(bytes), allocate_(std::move(allocate)), buffers_{Make(), Make()} {}

Parities::Buffer Parities::Make() const {
  Buffer buffer = {allocate_(), std::make_shared<std::atomic<int>>(0)};
  std::memset(buffer.bytes.get(), 0, bytes_);
  return buffer;
}

rpc::Payload Parities::Answer(int parity, bool in_place) const {
  const Buffer& buffer = buffers_[parity];
  if (in_place) return rpc::Payload::Borrow((*this)[parity], buffer.bytes);
  buffer.loans->fetch_add(1, std::memory_order_relaxed);
  const auto return_it = [bytes = buffer.bytes, loans = buffer.loans](const void*) {
    loans->fetch_sub(1, std::memory_order_release);
  };
  return rpc::Payload::Lend((*this)[parity],
                            std::shared_ptr<const void>(buffer.bytes.get(), return_it));
}

void Parities::Renew(int parity) {
  if (!buffers_[parity].lent()) return;
  auto spare = std::ranges::find_if(spares_, [](const Buffer& b) { return !b.lent(); });
  if (spare == spares_.end()) spare = spares_.insert(spare, Make());
  std::swap(buffers_[parity], *spare);
}

}  // namespace muster::ps
