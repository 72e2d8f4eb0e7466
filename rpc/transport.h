// Transport: ordered bidirectional streams of Messages between processes (gRPC) or inside one
// (in-process).
//
// Everything that Muster's roles say to each other, control and tensors, travels on such streams.
// Which transport serves a pair is found out when they connect. Adding one means one class here,
// one line in its composition roots, one instance in tests/rpc.
//
// Rules for every transport:
//  1. Messages of one direction of a stream arrive in the order they were sent, each once, or the
//     stream closes.
//  2. Send never blocks and never copies payload bytes; bounding the bytes in flight is the
//     sender's business (credits, ps/client.h). A borrowed payload without owner stays referenced
//     until the peer has answered it or OnClosed was called: in one process that includes every
//     copy of the Payload that the peer keeps, so at most one of the two ends may keep received
//     payloads until its own OnClosed. An owner is dropped once, on any thread: its deleter neither
//     blocks nor calls into the transport.
//  3. Handler calls of one stream never overlap and never come from inside Send or Close of the
//     *same* stream end. The in-process transport may run the peer's OnMessage inside Send: so
//     never hold a lock while calling Send that a handler takes.
//  4. OnClosed is called exactly once per stream end, last, with OK after an orderly Close by
//     either side, else with what broke. An end that called Close receives no more messages.
//  5. A handler or acceptor may call Send and Close of any stream; it must not wait for another
//     message, call Connect, or destroy a Listener or Transport: other streams are served by the
//     same thread.
#pragma once

#include <absl/functional/function_ref.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "rpc/message.h"
#include "telemetry/status.h"

namespace muster::rpc {

// Who opens a stream, to whom and as what: checked before the first real message.
struct Hello {
  int protocol_version = 0;  // kProtocolVersion of the sender's build
  std::string build_id;      // BuildId() of the sender's program; both ends must be equal
  std::string job_token;     // secret of the job, random; both ends must be equal
  std::string service;       // "control" or "params"
  std::string role;          // "master", "worker", "ps"
  int index = 0;             // within the role
  // Where to send what is shared with this process, and the connecting end's number of the stream
  // (rpc/shared_regions.h); filled in by transports.
  std::string shared_memory = {};
  uint64_t shared_link = 0;
};

// `size` bytes of this process's own memory, aligned to 64, of no particular value; from a page on
// in pages that nothing else shares, which a GPU's driver can pin.
std::shared_ptr<std::byte[]> AllocateAligned(size_t size);

// The same memory, seen as float32.
inline std::shared_ptr<float[]> FloatsIn(const std::shared_ptr<std::byte[]>& bytes) {
  return {bytes, reinterpret_cast<float*>(bytes.get())};
}

class Stream {
 public:
  virtual ~Stream() = default;
  // Queues `message` (header.payload_bytes is filled in). Fails with what closed the stream once it
  // is closed, with InvalidArgument for a payload above kMaxPayloadBytes or a type that only
  // transports send (kHello, kClose). Thread-safe.
  virtual absl::Status Send(Message message) = 0;
  // As Send, and more follows at once: the message may wait for company until the next Flush, Send
  // or Close, and then share a write with it. Thread-safe.
  virtual absl::Status Queue(Message message) { return Send(std::move(message)); }
  virtual void Flush() {}
  // Ends the stream after what is queued was sent; idempotent. The peer's OnClosed, and this end's,
  // get `status`. A peer that reads nothing for some seconds is cut off. Thread-safe.
  virtual void Close(absl::Status status = absl::OkStatus()) = 0;
  // Who is at the other end.
  virtual const Hello& peer() const = 0;
};

// Receives what the peer sends. Owned by the stream end; destroyed after OnClosed returned.
class StreamHandler {
 public:
  virtual ~StreamHandler() = default;
  virtual void OnMessage(Message message) = 0;
  // What arrived together has been handed over: for handlers that collect.
  virtual void OnBatchEnd() {}
  virtual void OnClosed(absl::Status status) = 0;
};

// Accepting side: called once per stream whose Hello was accepted, before its first OnMessage.
// Returns the handler, or a status that refuses the peer (it reads the text). The stream is shared
// with the caller; holding it does not keep it open, dropping it does not close it.
using Acceptor = std::function<absl::StatusOr<std::unique_ptr<StreamHandler>>(
    const Hello& peer, std::shared_ptr<Stream> stream)>;

// How many peers came to a Listener, by what became of them.
struct ListenerCounters {
  int64_t accepted = 0;
  int64_t refused = 0;    // wrong build, protocol or token, or refused by the acceptor
  int64_t malformed = 0;  // sent something that is not our protocol, at first or later
};

// An open port. Destroying it closes its streams (orderly: what is queued is sent first) and
// returns after their last handler call.
class Listener {
 public:
  virtual ~Listener() = default;
  // Where peers connect: "127.0.0.1:43567" or "inproc:7".
  virtual const std::string& address() const = 0;
  virtual ListenerCounters counters() const = 0;
};

// How long to try to connect. `given_up`, when there is one, is asked several times a second by the
// thread that connects: true ends the attempt with Cancelled.
struct ConnectLimit {
  ConnectLimit(int64_t timeout_ms, std::function<bool()> given_up = nullptr)  // NOLINT: implicit
      : timeout_ms(timeout_ms), given_up(std::move(given_up)) {}
  int64_t timeout_ms;
  std::function<bool()> given_up;
};
inline constexpr auto kGivenUpPause = std::chrono::milliseconds(50);

// Outlives its listeners. Destroying it closes, as a Listener does, the streams it connected.
class Transport {
 public:
  virtual ~Transport() = default;
  // Listens on `address` (port 0: the system chooses). `self` is what this end says in its Hello.
  // Thread-safe.
  virtual absl::StatusOr<std::unique_ptr<Listener>> Listen(const std::string& address, Hello self,
                                                           Acceptor acceptor) = 0;
  // Opens a stream and waits for the handshake, no longer than `limit` (retrying while nobody
  // listens yet). Messages may reach `handler` before this returns. Dropping the last reference to
  // the stream closes it. Fails with FailedPrecondition when the peer is of another build or
  // protocol, PermissionDenied when it has another token, the acceptor's status when that refuses,
  // Unavailable or DeadlineExceeded when nobody answers; `handler` is then destroyed uncalled.
  // Thread-safe.
  virtual absl::StatusOr<std::shared_ptr<Stream>> Connect(const std::string& address, Hello self,
                                                          std::unique_ptr<StreamHandler> handler,
                                                          ConnectLimit limit) = 0;
  // For a thread that waits for messages of streams that this transport connected: where that saves
  // time, receives them itself, so that handlers are called in here, until `done` or `deadline`.
  // `done` is asked after each batch, and when WakeHelper was called. False, at once, where a
  // thread of the transport does as well: the caller then waits by other means. Thread-safe; not
  // to be called by a handler.
  virtual bool Help(absl::FunctionRef<bool()> /*done*/,
                    std::chrono::steady_clock::time_point /*deadline*/) {
    return false;
  }
  virtual void WakeHelper() {}
  // `size` bytes of memory, aligned to 64, all zero: payloads in it travel as cheaply as this
  // transport can. A peer may read them where they lie, so they stay unchanged until the protocol
  // says that it is done. Freed with the last reference. Thread-safe.
  virtual std::shared_ptr<std::byte[]> Allocate(size_t size) {
    std::shared_ptr<std::byte[]> memory = AllocateAligned(size);
    std::memset(memory.get(), 0, size);
    return memory;
  }
};

inline constexpr int kProtocolVersion = 1;

// Checks `peer` against `self`: protocol, build (FailedPrecondition), token (PermissionDenied), in
// this order; the text names both values (not the token).
absl::Status CheckHello(const Hello& self, const Hello& peer);

}  // namespace muster::rpc
