// Message: what travels on a stream. A fixed header and a payload of borrowed or owned byte ranges,
// never copied by a transport.
//
// Header and Payload are value types, thread-compatible. All integers travel little-endian, as on
// every machine Muster supports.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace muster::rpc {

// What a message means. Data-plane types carry tensor bytes, CONTROL a serialised protobuf.
enum class MessageType : uint8_t {
  kHello = 1,    // first message of a stream: payload = Hello (rpc/handshake.proto); answered by
                 // kHello or kError
  kControl = 2,  // payload = a message of master/control.proto
  kPush = 3,     // worker → server: payload = the gradient of one slice, as float32
  kAck = 4,  // server → worker: the push is consumed or held; returns its credit. `code` says the
             // verdict
  kPull = 5,  // worker → server: wants the slice at `clock`
  kParams =
      6,  // server → worker: payload = the slice's parameters at version `version`, as float32
  kError = 7,     // either way: `code` is an absl::StatusCode, payload = the text
  kNorms = 8,     // server → worker: payload = sums of squares of one slice, as float64
  kTotals = 9,    // worker → server: the answer: what they add up to over all slices
  kArrived = 10,  // worker → server: all of a replica's gradient is acknowledged (ps/quorum.h)
  kQuorum = 11,   // either way: the replicas that a step counts
  kClose = 12,    // last message of a direction, between transports; no handler sees it. `code`,
                  // payload: as kError, or OK
};

// Flags of a kPush.
inline constexpr uint8_t kWantParams =
    1;  // answer with PARAMS when the next clock may be read (PushPull)
// Flag of any message, between transports (rpc/shared_transport.h): the payload is the place of the
// real one in shared memory.
inline constexpr uint8_t kSharedPayload = 128;
// Likewise (rpc/shared_end.h): about the stream's ring; `code` says what.
inline constexpr uint8_t kRingNote = 64;
// Flags of a kParams.
inline constexpr uint8_t kInPlace =
    1;  // where these bytes lie they stay until the reader has pushed two steps more
// Flags of a kPull.
inline constexpr uint8_t kAllAtClock =
    1;  // answer when the least clock over all replicas has reached `step`, whatever the policy

// 64 bytes on the wire, in this order.
struct Header {
  uint32_t magic = kMagic;
  MessageType type = MessageType::kControl;
  uint8_t flags = 0;
  uint16_t code = 0;     // absl::StatusCode of an answer; kAck: see ps/wire.h
  uint32_t slice = 0;    // index of the ParamSlice in the job's partition
  uint32_t replica = 0;  // the replica that pushes or reads
  int64_t step = 0;      // the item's step; kPull, kParams: the clock that reads
  int64_t version =
      0;  // kParams: applies behind these parameters; kPull: exact version wanted, or -1
  uint64_t epoch = 0;  // fencing epoch of the sender's lease
  uint64_t payload_bytes = 0;
  uint64_t rows = 0;  // of a table, whose ids begin the payload; 0: the slice's whole range
  uint64_t loan = 0;  // between transports (rpc/ring.h)

  static constexpr uint32_t kMagic = 0x3154534d;  // "MST1"
};
static_assert(sizeof(Header) == 64 && std::is_trivially_copyable_v<Header>);

// The largest payload of one message; Send refuses more. Far above any slice; it bounds what a
// broken length can make us read.
inline constexpr uint64_t kMaxPayloadBytes = uint64_t{1} << 30;

// A list of byte ranges with shared ownership of what backs them. Copying a Payload copies no
// bytes. What was received is cut wherever the network cut it: a range may begin at any address and
// end within a float.
class Payload {
 public:
  struct Slice {
    std::span<const std::byte> bytes;
    std::shared_ptr<const void>
        owner;            // keeps `bytes` valid; null: the creator guarantees it until the answer
    bool shared = false;  // in a mapping of memory that the sender shares with this process
  };

  Payload() = default;
  // Borrows `bytes`: they must stay valid and unchanged until the protocol says that the receiver
  // is done (design §4), or, with `owner`, until the last copy of the payload is gone.
  static Payload Borrow(std::span<const std::byte> bytes,
                        std::shared_ptr<const void> owner = nullptr) {
    Payload payload;
    payload.Append({bytes, std::move(owner)});
    return payload;
  }
  // As Borrow, but however the payload travels, its owner is held until the receiver has dropped it
  // (or the stream is closed), so that the sender can tell when the bytes may change.
  static Payload Lend(std::span<const std::byte> bytes, std::shared_ptr<const void> owner) {
    Payload payload = Borrow(bytes, std::move(owner));
    payload.lent_ = true;
    return payload;
  }
  // Owns a copy of `text`; for control messages and errors.
  static Payload Own(std::string text) {
    auto owned = std::make_shared<const std::string>(std::move(text));
    return Borrow(std::as_bytes(std::span(*owned)), owned);
  }

  void Append(Slice slice) {
    size_ += slice.bytes.size();
    slices_.push_back(std::move(slice));
  }
  // Gives `owner` to every range that has none.
  void Adopt(const std::shared_ptr<const void>& owner) {
    for (Slice& slice : slices_) {
      if (slice.owner == nullptr) slice.owner = owner;
    }
  }
  size_t size() const { return size_; }  // bytes over all slices
  bool lent() const { return lent_; }
  const std::vector<Slice>& slices() const { return slices_; }
  // Copies all bytes to `to`, which has size() bytes.
  void CopyTo(std::byte* to) const {
    for (const Slice& slice : slices_) {
      if (!slice.bytes.empty()) std::memcpy(to, slice.bytes.data(), slice.bytes.size());
      to += slice.bytes.size();
    }
  }
  // Copies all bytes into one string; for control messages only.
  std::string Flatten() const {
    std::string out;
    out.reserve(size_);
    for (const Slice& slice : slices_) {
      out.append(reinterpret_cast<const char*>(slice.bytes.data()), slice.bytes.size());
    }
    return out;
  }

 private:
  std::vector<Slice> slices_;
  size_t size_ = 0;
  bool lent_ = false;
};

struct Message {
  Header header;
  Payload payload;
};

}  // namespace muster::rpc
