// What the stream ends of every transport have in common. For transports only; their users see
// rpc/transport.h.
#pragma once

#include <atomic>
#include <memory>
#include <unordered_map>

#include "rpc/transport.h"
#include "telemetry/mutex.h"

namespace muster::rpc {

// The ends that a Listener or the connecting side of a Transport must see closed before it goes.
// Keeps them alive. Thread-safe.
class StreamSet {
 public:
  // Takes `stream` in; closes it at once when CloseAll was called before.
  void Add(const std::shared_ptr<Stream>& stream);
  // To be called after the end's last handler call.
  void Remove(const Stream* stream);
  void CloseAll();
  // Returns when no end is left.
  void WaitEmpty();

 private:
  Mutex mu_;
  CondVar empty_;
  bool closing_ ABSL_GUARDED_BY(mu_) = false;
  std::unordered_map<const Stream*, std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mu_);
};

// ListenerCounters that many threads count.
struct AtomicCounters {
  std::atomic<int64_t> accepted = 0;
  std::atomic<int64_t> refused = 0;
  std::atomic<int64_t> malformed = 0;
  ListenerCounters Get() const { return {accepted.load(), refused.load(), malformed.load()}; }
};

// What Connect returns: `end`, closed when the last reference to the result is dropped.
std::shared_ptr<Stream> ClosedWhenDropped(std::shared_ptr<Stream> end);

// Whether a user of a stream may send `message`.
absl::Status CheckSendable(const Message& message);

// What Send returns on an end that closed with `status`.
absl::Status SendAfterClose(const absl::Status& status);

}  // namespace muster::rpc
