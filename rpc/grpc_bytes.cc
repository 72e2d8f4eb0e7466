#include "rpc/grpc_bytes.h"

#include <grpcpp/support/slice.h>

#include <atomic>
#include <memory>
#include <utility>

namespace muster::rpc {
namespace {

// Keeps what gRPC reads from. One reference per slice of payload, and one while the buffer is
// built.
struct Sent {
  std::vector<Message> messages;
  std::function<void()> on_released;
  std::atomic<int64_t> references = 1;

  static void Release(void* self) {
    auto* sent = static_cast<Sent*>(self);
    if (sent->references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    const std::function<void()> on_released = std::move(sent->on_released);
    delete sent;
    on_released();
  }
};

}  // namespace

grpc::ByteBuffer ToByteBuffer(std::vector<Message> messages, std::function<void()> on_released) {
  auto* sent = new Sent{std::move(messages), std::move(on_released)};
  std::vector<grpc::Slice> slices;
  slices.reserve(2 * sent->messages.size());
  for (const Message& message : sent->messages) {
    slices.emplace_back(&message.header, sizeof(Header));
    for (const Payload::Slice& slice : message.payload.slices()) {
      if (slice.bytes.empty()) continue;
      sent->references.fetch_add(1, std::memory_order_relaxed);
      slices.emplace_back(const_cast<std::byte*>(slice.bytes.data()), slice.bytes.size(),
                          &Sent::Release, sent);
    }
  }
  grpc::ByteBuffer buffer(slices.data(), slices.size());
  Sent::Release(sent);
  return buffer;
}

Payload FromByteBuffer(const grpc::ByteBuffer& buffer) {
  auto slices = std::make_shared<std::vector<grpc::Slice>>();
  Payload payload;
  if (!buffer.Valid() || !buffer.Dump(slices.get()).ok()) return payload;
  for (const grpc::Slice& slice : *slices) {
    payload.Append({{reinterpret_cast<const std::byte*>(slice.begin()), slice.size()}, slices});
  }
  return payload;
}

}  // namespace muster::rpc
