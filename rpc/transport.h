// Transport: ordered bidirectional streams of Messages between processes (gRPC) or inside one (in-process).
//
// Everything that Muster's roles say to each other, control and tensors, travels on such streams. Which transport serves a pair is
// found out when they connect. Adding one means one class here, one line in its composition roots, one instance in tests/rpc.
//
// Rules for every transport:
//  1. Messages of one direction of a stream arrive in the order they were sent, each once, or the stream closes.
//  2. Send never blocks and never copies payload bytes; bounding the bytes in flight is the sender's business (credits, ps/client.h).
//     A borrowed payload without owner stays referenced until the peer has answered it or OnClosed was called.
//  3. Handler calls of one stream never overlap and never come from inside Send of the *same* stream end. The in-process transport may
//     run the peer's OnMessage inside Send: so never hold a lock while calling Send that a handler takes.
//  4. OnClosed is called exactly once per stream end, last, with OK after an orderly Close by either side, else with what broke.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "rpc/message.h"
#include "telemetry/status.h"

namespace muster::rpc {

// Who opens a stream, to whom and as what: checked before the first real message.
struct Hello {
  int protocol_version = 0;    // kProtocolVersion of the sender's build
  std::string build_id;        // telemetry of the build; both ends must be equal
  std::string job_token;       // secret of the job, random; both ends must be equal
  std::string service;         // "control" or "params"
  std::string role;            // "master", "worker", "ps"
  int index = 0;               // within the role
};

class Stream {
 public:
  virtual ~Stream() = default;
  // Queues `message` (header.payload_bytes is filled in). Fails with the latched status once the stream is closed. Thread-safe.
  virtual absl::Status Send(Message message) = 0;
  // Ends the stream after what is queued was sent; idempotent. A non-OK status reaches the peer's OnClosed as text. Thread-safe.
  virtual void Close(absl::Status status = absl::OkStatus()) = 0;
  // Who is at the other end.
  virtual const Hello& peer() const = 0;
};

// Receives what the peer sends. Owned by the stream end; destroyed after OnClosed returned.
class StreamHandler {
 public:
  virtual ~StreamHandler() = default;
  virtual void OnMessage(Message message) = 0;
  virtual void OnClosed(absl::Status status) = 0;
};

// Accepting side: called once per stream whose Hello was accepted, before its first OnMessage. Returns the handler, or a status that
// refuses the peer (it reads the text). The stream is shared with the caller; holding it does not keep it open.
using Acceptor = std::function<absl::StatusOr<std::unique_ptr<StreamHandler>>(
    const Hello& peer, std::shared_ptr<Stream> stream)>;

// An open port. Destroying it closes its streams and returns after their last handler call.
class Listener {
 public:
  virtual ~Listener() = default;
  // Where peers connect: "127.0.0.1:43567" or "inproc:7".
  virtual const std::string& address() const = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  // Listens on `address` (port 0: the system chooses). `self` is what this end says in its Hello. Thread-safe.
  virtual absl::StatusOr<std::unique_ptr<Listener>> Listen(const std::string& address, Hello self,
                                                           Acceptor acceptor) = 0;
  // Opens a stream and waits for the handshake, `timeout_ms` at most (retrying while nobody listens yet). Fails with
  // FailedPrecondition when the peer is of another build or protocol or has another token, Unavailable or DeadlineExceeded when nobody
  // answers. Thread-safe.
  virtual absl::StatusOr<std::shared_ptr<Stream>> Connect(const std::string& address, Hello self,
                                                          std::unique_ptr<StreamHandler> handler,
                                                          int64_t timeout_ms) = 0;
};

inline constexpr int kProtocolVersion = 1;

// Checks `peer` against `self`: protocol, build, token, in this order; the text names both values (not the token).
absl::Status CheckHello(const Hello& self, const Hello& peer);

}  // namespace muster::rpc
