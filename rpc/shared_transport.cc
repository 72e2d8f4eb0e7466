#include "rpc/shared_transport.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "rpc/shared_regions.h"
#include "rpc/stream_end.h"
#include "telemetry/mutex.h"

namespace muster::rpc {
namespace {

constexpr size_t kNameBytes = SharedRegions::kNameBytes;
constexpr size_t kMostRanges = 1024;  // of one payload

// What all streams of a transport share; they may outlive it.
struct Sharing {
  Sharing(std::unique_ptr<SharedRegions> r, Log& l, size_t least)
      : regions(std::move(r)), log(l), least_bytes(least) {}
  const std::unique_ptr<SharedRegions> regions;
  Log& log;
  const size_t least_bytes;  // of a payload that is shared
  std::atomic<int64_t> bytes = 0;
};

// On the wire, in place of the payload: the sender's name, then its ranges.
std::optional<Payload> ToPlaces(Sharing& sharing, const std::string& peer, const Payload& payload) {
  if (payload.size() < std::max<size_t>(1, sharing.least_bytes) ||
      payload.slices().size() > kMostRanges) {
    return std::nullopt;
  }
  std::string text = sharing.regions->name();
  for (const Payload::Slice& slice : payload.slices()) {
    const std::optional<SharedRange> range = sharing.regions->Find(peer, slice.bytes);
    if (!range.has_value()) return std::nullopt;
    text.append(reinterpret_cast<const char*>(&*range), sizeof(*range));
  }
  return Payload::Own(std::move(text));
}

absl::StatusOr<Payload> FromPlaces(Sharing& sharing, const Payload& places) {
  const std::string text = places.size() <= kNameBytes + kMostRanges * sizeof(SharedRange)
                               ? places.Flatten()
                               : std::string();
  if (text.size() <= kNameBytes || (text.size() - kNameBytes) % sizeof(SharedRange) != 0) {
    return absl::InvalidArgumentError("a message points at shared memory and does not say where");
  }
  const std::string from = text.substr(0, kNameBytes);
  Payload payload;
  for (size_t at = kNameBytes; at < text.size(); at += sizeof(SharedRange)) {
    SharedRange range;
    std::memcpy(&range, text.data() + at, sizeof(range));
    ASSIGN_OR_RETURN(Payload::Slice slice, sharing.regions->Resolve(from, range));
    if (slice.bytes.size() > kMaxPayloadBytes - payload.size()) {
      return absl::InvalidArgumentError("a message points at more bytes than one may have");
    }
    payload.Append(std::move(slice));
  }
  return payload;
}

class SharingStream : public Stream {
 public:
  SharingStream(std::shared_ptr<Stream> inner, std::shared_ptr<Sharing> sharing)
      : inner_(std::move(inner)), sharing_(std::move(sharing)) {}

  absl::Status Send(Message message) override {
    RETURN_IF_ERROR(Shorten(message));
    return inner_->Send(std::move(message));
  }
  absl::Status Queue(Message message) override {
    RETURN_IF_ERROR(Shorten(message));
    return inner_->Queue(std::move(message));
  }
  void Flush() override { inner_->Flush(); }
  void Close(absl::Status status) override { inner_->Close(std::move(status)); }
  const Hello& peer() const override { return inner_->peer(); }

 private:
  absl::Status Shorten(Message& message) {
    RETURN_IF_ERROR(CheckSendable(message));
    message.header.flags &= static_cast<uint8_t>(~kSharedPayload);
    const int64_t size = static_cast<int64_t>(message.payload.size());
    if (std::optional<Payload> places =
            ToPlaces(*sharing_, inner_->peer().shared_memory, message.payload)) {
      message.payload = *std::move(places);
      message.header.flags |= kSharedPayload;
      sharing_->bytes.fetch_add(size, std::memory_order_relaxed);
      if (!told_.exchange(true, std::memory_order_relaxed)) {
        sharing_->log.Info("tensors for {}-{} stay in shared memory", peer().role, peer().index);
      }
    }
    return absl::OkStatus();
  }

  const std::shared_ptr<Stream> inner_;
  const std::shared_ptr<Sharing> sharing_;
  std::atomic<bool> told_ = false;
};

// One stream's acquaintance with its peer: begun when the stream is open, ended with it, in
// whatever order the two become known. Thread-safe.
class Acquaintance {
 public:
  explicit Acquaintance(std::shared_ptr<Sharing> sharing) : sharing_(std::move(sharing)) {}

  void Begin(const std::shared_ptr<Stream>& stream) {
    MutexLock lock(mu_);
    stream_ = stream;
    if (ended_) return;
    peer_ = stream->peer().shared_memory;
    sharing_->regions->Meet(peer_);
  }
  void End() {
    MutexLock lock(mu_);
    if (!std::exchange(ended_, true) && !peer_.empty()) sharing_->regions->Part(peer_);
  }
  // The stream; null before Begin and when it is gone.
  std::shared_ptr<Stream> stream() {
    MutexLock lock(mu_);
    return stream_.lock();
  }

 private:
  const std::shared_ptr<Sharing> sharing_;
  Mutex mu_;
  std::string peer_ ABSL_GUARDED_BY(mu_);
  std::weak_ptr<Stream> stream_ ABSL_GUARDED_BY(mu_);
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
};

class SharingHandler : public StreamHandler {
 public:
  SharingHandler(std::unique_ptr<StreamHandler> inner, std::shared_ptr<Sharing> sharing,
                 std::shared_ptr<Acquaintance> acquaintance)
      : inner_(std::move(inner)),
        sharing_(std::move(sharing)),
        acquaintance_(std::move(acquaintance)) {}

  void OnMessage(Message message) override {
    if (!broken_.ok()) return;
    if ((message.header.flags & kSharedPayload) != 0) {
      absl::StatusOr<Payload> payload = FromPlaces(*sharing_, message.payload);
      if (!payload.ok()) {
        broken_ = payload.status();
        if (const auto stream = acquaintance_->stream()) stream->Close(broken_);
        return;
      }
      message.payload = *std::move(payload);
      message.header.payload_bytes = message.payload.size();
      message.header.flags &= static_cast<uint8_t>(~kSharedPayload);
    }
    inner_->OnMessage(std::move(message));
  }
  void OnClosed(absl::Status status) override {
    acquaintance_->End();
    inner_->OnClosed(broken_.ok() ? std::move(status) : broken_);
  }

 private:
  const std::unique_ptr<StreamHandler> inner_;
  const std::shared_ptr<Sharing> sharing_;
  const std::shared_ptr<Acquaintance> acquaintance_;
  absl::Status broken_;  // of the handler's calls, which never overlap
};

class SharedTransportImpl : public SharedTransport {
 public:
  SharedTransportImpl(std::unique_ptr<Transport> inner, std::unique_ptr<SharedRegions> regions,
                      Log& log, size_t least_bytes)
      : sharing_(std::make_shared<Sharing>(std::move(regions), log, least_bytes)),
        inner_(std::move(inner)) {}

  absl::StatusOr<std::unique_ptr<Listener>> Listen(const std::string& address, Hello self,
                                                   Acceptor acceptor) override {
    self.shared_memory = sharing_->regions->name();
    auto sharing_acceptor = [sharing = sharing_, acceptor = std::move(acceptor)](
                                const Hello& peer, const std::shared_ptr<Stream>& stream)
        -> absl::StatusOr<std::unique_ptr<StreamHandler>> {
      auto acquaintance = std::make_shared<Acquaintance>(sharing);
      ASSIGN_OR_RETURN(auto handler,
                       acceptor(peer, std::make_shared<SharingStream>(stream, sharing)));
      acquaintance->Begin(stream);
      return std::make_unique<SharingHandler>(std::move(handler), sharing, std::move(acquaintance));
    };
    return inner_->Listen(address, std::move(self), std::move(sharing_acceptor));
  }

  absl::StatusOr<std::shared_ptr<Stream>> Connect(const std::string& address, Hello self,
                                                  std::unique_ptr<StreamHandler> handler,
                                                  int64_t timeout_ms) override {
    self.shared_memory = sharing_->regions->name();
    auto acquaintance = std::make_shared<Acquaintance>(sharing_);
    ASSIGN_OR_RETURN(std::shared_ptr<Stream> stream,
                     inner_->Connect(address, std::move(self),
                                     std::make_unique<SharingHandler>(std::move(handler), sharing_,
                                                                      acquaintance),
                                     timeout_ms));
    acquaintance->Begin(stream);
    return std::make_shared<SharingStream>(std::move(stream), sharing_);
  }

  std::shared_ptr<std::byte[]> Allocate(size_t size) override {
    // Nothing in less would ever be shared.
    if (size < sharing_->least_bytes) return Transport::Allocate(size);
    std::shared_ptr<std::byte[]> memory = sharing_->regions->Allocate(size);
    return memory != nullptr ? memory : Transport::Allocate(size);
  }

  int64_t shared_bytes() const override { return sharing_->bytes; }

 private:
  const std::shared_ptr<Sharing> sharing_;
  const std::unique_ptr<Transport> inner_;  // destroyed first: its streams end
};

}  // namespace

absl::StatusOr<std::unique_ptr<SharedTransport>> MakeSharedTransport(
    std::unique_ptr<Transport> inner, Log& log, size_t least_bytes) {
  ASSIGN_OR_RETURN(auto regions, SharedRegions::Open(log));
  return std::make_unique<SharedTransportImpl>(std::move(inner), std::move(regions), log,
                                               least_bytes);
}

}  // namespace muster::rpc
