// Shared transport: lets payloads on one host stay where they lie, and messages go by without a
// system call. Wraps another transport, on whose streams everything begins; a payload that lies in
// memory from Allocate, and whose peer has mapped that memory, travels as its place (region,
// offset, size) instead of its bytes, and the messages of the data plane turn to a ring in shared
// memory (rpc/shared_end.h). Everything else goes over the wire as ever, so no peer has to share:
// the two ends find out by themselves.
//
// A payload that was not copied is read by the peer later than by a wire: memory from Allocate must
// stay unchanged until the protocol says that the peer is done with it (rule 2 of
// rpc/transport.h), whatever owner the range has. For tensors these are the invariants of design
// §4, "Same host".
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "rpc/transport.h"
#include "telemetry/log.h"

namespace muster::rpc {

class SharedTransport : public Transport {
 public:
  // Bytes of payloads that were sent as places, and messages that went through rings. Thread-safe.
  virtual int64_t shared_bytes() const = 0;
  virtual int64_t ring_messages() const = 0;
};

// Payloads on the wire below this are copied: sharing them gained nothing (docs/performance.md).
inline constexpr size_t kLeastSharedBytes = 256 << 10;

struct SharedOptions {
  size_t least_bytes = kLeastSharedBytes;
  std::string ring_service = "params";  // whose messages turn to rings; empty: none do
};

// `inner` carries the messages; `log` is borrowed. Fails when the system gives no unix socket.
absl::StatusOr<std::unique_ptr<SharedTransport>> MakeSharedTransport(
    std::unique_ptr<Transport> inner, Log& log, SharedOptions options = {});

}  // namespace muster::rpc
