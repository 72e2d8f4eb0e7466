// What the network carries, cut anywhere: ParseFrames believes nothing, loses nothing and invents
// nothing; neither do the two messages that transports read themselves.
#include <algorithm>
#include <memory>
#include <string>

#include "rpc/framing.h"
#include "telemetry/check.h"
#include "tests/fuzz/input.h"

using muster::fuzz::Input;
namespace rpc = muster::rpc;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const size_t cut = 1 + input.Byte();
  // Exactly as large as it is, so that a sanitizer sees a byte too many.
  const std::string text(input.Rest().begin(), input.Rest().end());
  rpc::Payload bytes;
  for (size_t at = 0; at < text.size(); at += cut) {
    const auto range = std::span(text).subspan(at, std::min(cut, text.size() - at));
    bytes.Append({std::as_bytes(range), nullptr});
  }
  const auto messages = rpc::ParseFrames(bytes);
  if (!messages.ok()) return 0;
  std::string again;
  for (const rpc::Message& message : *messages) {
    CHECK_EQ(message.payload.size(), message.header.payload_bytes);
    again.append(reinterpret_cast<const char*>(&message.header), sizeof(message.header));
    again += message.payload.Flatten();
    if (const auto hello = rpc::ParseHello(message); hello.ok()) {
      const auto twice = rpc::ParseHello(rpc::HelloMessage(*hello));
      CHECK(twice.ok() && twice->build_id == hello->build_id && twice->role == hello->role &&
            twice->index == hello->index && twice->shared_memory == hello->shared_memory &&
            twice->shared_link == hello->shared_link);
    }
    const absl::Status status = rpc::ParseStatus(message);
    CHECK_EQ(status.ok(), message.header.code == 0);
  }
  CHECK(again == text);
  return 0;
}
