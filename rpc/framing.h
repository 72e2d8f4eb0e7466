// Framing: how Messages lie in the bytes that a network transport carries. Stateless functions,
// thread-safe.
//
// A frame is a Header and payload_bytes of payload; a transport may put several frames behind one
// another. What is parsed comes from the network and is believed in nothing.
#pragma once

#include <vector>

#include "rpc/transport.h"

namespace muster::rpc {

// Cuts `bytes` into its frames. The payloads share the owners of `bytes`; nothing is copied but
// headers. Fails with InvalidArgument when a header is not ours, a type is unknown, or lengths do
// not add up to `bytes`.
absl::StatusOr<std::vector<Message>> ParseFrames(const Payload& bytes);

// A kHello that says `hello`, and back; InvalidArgument when `message` is no such thing.
Message HelloMessage(const Hello& hello);
absl::StatusOr<Hello> ParseHello(const Message& message);

// A message of `type` (kError, kClose) that carries `status`, and back: a code outside of absl's
// becomes kUnknown, a text is cut at 64 KiB.
Message StatusMessage(MessageType type, const absl::Status& status);
absl::Status ParseStatus(const Message& message);

}  // namespace muster::rpc
