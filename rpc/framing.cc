#include "rpc/framing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "rpc/handshake.pb.h"

namespace muster::rpc {
namespace {

constexpr size_t kMaxHelloBytes = 64 << 10;
constexpr size_t kMaxStatusText = 64 << 10;

// Reads a Payload from front to back.
class Cursor {
 public:
  explicit Cursor(const Payload& payload) : slices_(payload.slices()), left_(payload.size()) {}

  size_t left() const { return left_; }

  // REQUIRES: n <= left().
  void Read(void* to, size_t n) {
    auto* out = static_cast<std::byte*>(to);
    Walk(n, [&](const Payload::Slice& slice, std::span<const std::byte> bytes) {
      (void)slice;
      std::memcpy(out, bytes.data(), bytes.size());
      out += bytes.size();
    });
  }
  Payload Take(size_t n) {
    Payload payload;
    Walk(n, [&](const Payload::Slice& slice, std::span<const std::byte> bytes) {
      payload.Append({bytes, slice.owner});
    });
    return payload;
  }

 private:
  template <typename Visit>
  void Walk(size_t n, Visit visit) {
    left_ -= n;
    while (n > 0) {
      const Payload::Slice& slice = slices_[index_];
      const size_t here = std::min(n, slice.bytes.size() - offset_);
      if (here > 0) visit(slice, slice.bytes.subspan(offset_, here));
      n -= here;
      offset_ += here;
      if (offset_ == slice.bytes.size()) {
        ++index_;
        offset_ = 0;
      }
    }
  }

  const std::vector<Payload::Slice>& slices_;
  size_t left_;
  size_t index_ = 0;
  size_t offset_ = 0;  // within slices_[index_]
};

absl::Status CheckHeader(const Header& header, size_t left) {
  if (header.magic != Header::kMagic) {
    return absl::InvalidArgumentError(
        fmt::format("not a message of Muster: its magic is {:#010x}, not {:#010x}", header.magic,
                    Header::kMagic));
  }
  if (header.type < MessageType::kHello || header.type > MessageType::kClose) {
    return absl::InvalidArgumentError(
        fmt::format("a message of unknown type {}", static_cast<int>(header.type)));
  }
  if (header.payload_bytes > kMaxPayloadBytes || header.payload_bytes > left) {
    return absl::InvalidArgumentError(fmt::format(
        "a message announces {} payload bytes where {} are left", header.payload_bytes, left));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Message>> ParseFrames(const Payload& bytes) {
  std::vector<Message> messages;
  Cursor cursor(bytes);
  do {
    if (cursor.left() < sizeof(Header)) {
      return absl::InvalidArgumentError(
          fmt::format("{} bytes where a header of {} should be", cursor.left(), sizeof(Header)));
    }
    Message message;
    cursor.Read(&message.header, sizeof(Header));
    RETURN_IF_ERROR(CheckHeader(message.header, cursor.left()));
    message.payload = cursor.Take(message.header.payload_bytes);
    messages.push_back(std::move(message));
  } while (cursor.left() > 0);
  return messages;
}

Message HelloMessage(const Hello& hello) {
  HelloProto proto;
  proto.set_protocol_version(hello.protocol_version);
  proto.set_build_id(hello.build_id);
  proto.set_job_token(hello.job_token);
  proto.set_service(hello.service);
  proto.set_role(hello.role);
  proto.set_index(hello.index);
  proto.set_shared_memory(hello.shared_memory);
  proto.set_shared_link(hello.shared_link);
  Message message;
  message.header.type = MessageType::kHello;
  message.payload = Payload::Own(proto.SerializeAsString());
  message.header.payload_bytes = message.payload.size();
  return message;
}

absl::StatusOr<Hello> ParseHello(const Message& message) {
  HelloProto proto;
  if (message.header.type != MessageType::kHello || message.payload.size() > kMaxHelloBytes ||
      !proto.ParseFromString(message.payload.Flatten())) {
    return absl::InvalidArgumentError("the first message is no Hello");
  }
  return Hello{proto.protocol_version(), proto.build_id(),   proto.job_token(),
               proto.service(),          proto.role(),       proto.index(),
               proto.shared_memory(),    proto.shared_link()};
}

Message StatusMessage(MessageType type, const absl::Status& status) {
  Message message;
  message.header.type = type;
  message.header.code = static_cast<uint16_t>(status.code());
  const absl::string_view text = status.message().substr(0, kMaxStatusText);
  if (!text.empty()) message.payload = Payload::Own(std::string(text));
  message.header.payload_bytes = message.payload.size();
  return message;
}

absl::Status ParseStatus(const Message& message) {
  if (message.header.code == 0) return absl::OkStatus();
  constexpr auto kLast = static_cast<uint16_t>(absl::StatusCode::kUnauthenticated);
  const auto code = message.header.code <= kLast
                        ? static_cast<absl::StatusCode>(message.header.code)
                        : absl::StatusCode::kUnknown;
  return absl::Status(code, message.payload.size() <= kMaxStatusText
                                ? message.payload.Flatten()
                                : "(a text longer than any of ours)");
}

}  // namespace muster::rpc
