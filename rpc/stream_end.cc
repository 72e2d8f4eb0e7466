#include "rpc/stream_end.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

#include "telemetry/check.h"

namespace muster::rpc {
namespace {

class OwningStream : public Stream {
 public:
  explicit OwningStream(std::shared_ptr<Stream> end) : end_(std::move(end)) {}
  ~OwningStream() override { end_->Close(); }

  absl::Status Send(Message message) override { return end_->Send(std::move(message)); }
  absl::Status Queue(Message message) override { return end_->Queue(std::move(message)); }
  void Flush() override { end_->Flush(); }
  void Close(absl::Status status) override { end_->Close(std::move(status)); }
  const Hello& peer() const override { return end_->peer(); }

 private:
  const std::shared_ptr<Stream> end_;
};

}  // namespace

void StreamSet::Add(const std::shared_ptr<Stream>& stream) {
  bool closing = false;
  {
    MutexLock lock(mu_);
    streams_.emplace(stream.get(), stream);
    closing = closing_;
  }
  if (closing) stream->Close();
}

void StreamSet::Remove(const Stream* stream) {
  std::shared_ptr<Stream> removed;  // must not die under the lock
  MutexLock lock(mu_);
  const auto it = streams_.find(stream);
  if (it == streams_.end()) return;
  removed = std::move(it->second);
  streams_.erase(it);
  if (streams_.empty()) empty_.NotifyAll();
}

void StreamSet::CloseAll() {
  std::vector<std::shared_ptr<Stream>> streams;
  {
    MutexLock lock(mu_);
    closing_ = true;
    for (const auto& [key, stream] : streams_) streams.push_back(stream);
  }
  for (const auto& stream : streams) stream->Close();
}

void StreamSet::WaitEmpty() {
  MutexLock lock(mu_);
  while (!streams_.empty()) empty_.Wait(mu_);
}

std::shared_ptr<std::byte[]> AllocateAligned(size_t size) {
  constexpr size_t kLine = 64, kPage = 4096;
  const size_t alignment = size < kPage ? kLine : kPage;
  const size_t rounded = (std::max<size_t>(size, 1) + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded);
  CHECK(memory != nullptr);
  return {static_cast<std::byte*>(memory), std::free};
}

std::shared_ptr<Stream> ClosedWhenDropped(std::shared_ptr<Stream> end) {
  return std::make_shared<OwningStream>(std::move(end));
}

absl::Status CheckSendable(const Message& message) {
  if (message.payload.size() > kMaxPayloadBytes) {
    return absl::InvalidArgumentError(fmt::format("a message of {} bytes; at most {} may be sent",
                                                  message.payload.size(), kMaxPayloadBytes));
  }
  if (message.header.type == MessageType::kHello || message.header.type == MessageType::kClose) {
    return absl::InvalidArgumentError("kHello and kClose are sent by transports only");
  }
  return absl::OkStatus();
}

absl::Status SendAfterClose(const absl::Status& status) {
  return status.ok() ? absl::UnavailableError("the stream is closed") : status;
}

}  // namespace muster::rpc
