// Shared transport: lets payloads on one host stay where they lie. Wraps another transport, whose
// streams carry all messages; a payload that lies in memory from Allocate, and whose peer has
// mapped that memory, travels as its place (region, offset, size) instead of its bytes. Everything
// else goes over the wire as ever, so no peer has to share: the two ends find out by themselves.
//
// A payload that was not copied is read by the peer later than by a wire: memory from Allocate must
// stay unchanged until the protocol says that the peer is done with it (rule 2 of
// rpc/transport.h), whatever owner the range has. For tensors these are the invariants of design
// §4, "Same host".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "rpc/transport.h"
#include "telemetry/log.h"

namespace muster::rpc {

class SharedTransport : public Transport {
 public:
  // Bytes of payloads that were sent as places. Thread-safe.
  virtual int64_t shared_bytes() const = 0;
};

// Payloads below this take the wire, where sharing them gained nothing (docs/performance.md).
inline constexpr size_t kLeastSharedBytes = 256 << 10;

// `inner` carries the messages; `log` is borrowed. Fails when the system gives no unix socket.
absl::StatusOr<std::unique_ptr<SharedTransport>> MakeSharedTransport(
    std::unique_ptr<Transport> inner, Log& log, size_t least_bytes = kLeastSharedBytes);

}  // namespace muster::rpc
