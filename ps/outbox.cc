#include "ps/outbox.h"

#include <algorithm>
#include <utility>

namespace muster::ps {
namespace {

// Beyond this a write is large enough to go alone, and the worker shall have its parameters soon.
constexpr int64_t kFlushBytes = 128 << 10;

}  // namespace

void Outbox::Send(const Peer& peer, rpc::Message message) {
  if (peer.closed.load(std::memory_order_relaxed)) return;
  bytes_ += static_cast<int64_t>(sizeof(rpc::Header) + message.payload.size());
  peer.stream->Queue(std::move(message)).IgnoreError();
  if (std::ranges::find(waiting_, peer.stream) == waiting_.end()) waiting_.push_back(peer.stream);
  if (bytes_ >= kFlushBytes) Flush();
}

void Outbox::Flush() {
  for (const auto& stream : waiting_) stream->Flush();
  waiting_.clear();
  bytes_ = 0;
}

}  // namespace muster::ps
