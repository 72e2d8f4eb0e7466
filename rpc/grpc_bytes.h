// Between Messages and gRPC's byte buffers, without copying payloads. Private to the gRPC
// transport. Thread-safe.
#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <functional>
#include <vector>

#include "rpc/message.h"

namespace muster::rpc {

// The frames of `messages`, one behind the other; payloads are referenced where they lie. When gRPC
// has let go of the last of them the messages are destroyed and `on_released` is called, on any
// thread, within gRPC.
grpc::ByteBuffer ToByteBuffer(std::vector<Message> messages, std::function<void()> on_released);

// The bytes of `buffer` where gRPC received them; the result's owner keeps them.
Payload FromByteBuffer(const grpc::ByteBuffer& buffer);

}  // namespace muster::rpc
