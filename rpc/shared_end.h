// One end of a stream between processes that may share memory. Private to the shared transport.
//
// Messages begin on the wire, the stream of the transport below. There a payload travels as its
// place when it is large and lies in memory that the peer has mapped. Meanwhile each end offers the
// peer its ring (rpc/ring.h); an end that has both rings says with a last note on the wire that its
// messages go through its ring from now on. Each direction turns by itself, and never back; the
// stream below stays for what is too large for the ring and lies in no shared memory, for the end,
// and to notice that a peer died.
//
// Order. What is sent goes through one queue, emptied by one thread at a time; a message that takes
// the wire after the turn leaves a record in the ring at its place. What is received is handed over
// by the wire's thread before the turn and by the poller's after it, which takes a message off the
// wire where a record says so. At the end nothing but OnClosed's thread is left: it hands over what
// remains in the ring, then what came by the wire without a record (a sender that closes does not
// wait for room in its ring).
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "rpc/ring.h"
#include "rpc/ring_poller.h"
#include "rpc/shared_places.h"
#include "rpc/transport.h"
#include "telemetry/mutex.h"

namespace muster::rpc {

// Send, Flush and Close are thread-safe; the rest is called by the stream below, as a handler is.
class SharedEnd final : public Polled, public std::enable_shared_from_this<SharedEnd> {
 public:
  // Joins `link`. `ring`: whether messages may turn to a ring.
  SharedEnd(std::shared_ptr<Sharing> sharing, SharedLink link, bool ring);
  ~SharedEnd();

  // Before the first message: what is received goes to `handler`.
  void SetHandler(std::unique_ptr<StreamHandler> handler) { handler_ = std::move(handler); }
  // The stream `below` is open, and its peer known: shows it our memory until OnClosed.
  void Begin(const std::shared_ptr<Stream>& below);

  // As Stream's; `below` is what Begin was given.
  absl::Status Send(Stream& below, Message message, bool flush);
  void Flush(Stream& below);
  void Close(Stream& below, absl::Status status);

  // The receiver has dropped what the peer lent us as `loan`. Thread-safe.
  void Return(uint64_t loan);

  void OnMessage(Message message);
  void OnBatchEnd();
  void OnClosed(absl::Status status);

  bool Poll() override;
  Bell bell() override;
  bool FallAsleep() override;
  void Awake() override;

 private:
  // Sends what is queued, as far as the ring has room.
  absl::Status Pump(Stream& below) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status PumpOne(Stream& below) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void TurnToRing(Stream& below) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // True: written; false: no room.
  absl::StatusOr<bool> WriteRecord(const Message& message, bool* takes_wire)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void ToPlaces(Message& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void FinishClose(Stream& below) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void MakeRingMemory() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void PartOnce() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Calls one of `below`'s functions without the lock.
  template <typename Call>
  auto Unlocked(Call call) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  // A payload of these places that returns the loan when it is dropped.
  Payload Borrowed(const Payload& places, uint64_t loan);
  // What we lent has come back.
  absl::Status Returned(uint64_t loan);

  void OnNote(const Message& note);
  absl::Status TakeOffer(const Message& offer);
  // Hands over up to `budget` messages of the ring; true when there were any.
  bool ReadRing(Ring& ring, int budget);
  // At the end: what is in the ring, and then what came by the wire without a record.
  void ReadRest();
  // The next one; false when there is none now.
  absl::StatusOr<bool> Next(Ring& ring, Message* message);
  void Break(absl::Status status);

  const std::shared_ptr<Sharing> sharing_;
  const SharedLink link_;
  std::unique_ptr<StreamHandler> handler_;

  std::atomic<Ring*> ring_ = nullptr;  // ring_owner_, once both sides' memory is known
  std::atomic<bool> reading_ = false;  // the peer has turned to its ring
  std::atomic<bool> blocked_ = false;  // what is queued waits for room in our ring
  std::atomic<bool> deaf_ = false;     // closed here or broken: nothing is handed over any more
  std::atomic<bool> over_ = false;     // OnClosed was called
  std::atomic<int64_t> on_wire_ = 0;   // messages in wire_

  Mutex mu_;  // of the sending side
  bool joined_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<std::byte[]> own_memory_ ABSL_GUARDED_BY(mu_);  // kRingMemoryBytes
  std::weak_ptr<Stream> below_ ABSL_GUARDED_BY(mu_);
  PlaceWriter places_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Ring> ring_owner_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<const void> peer_memory_ ABSL_GUARDED_BY(mu_);
  std::deque<Message> queue_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, Payload> lent_ ABSL_GUARDED_BY(mu_);  // that the peer reads where they lie
  uint64_t next_loan_ ABSL_GUARDED_BY(mu_) = 1;
  bool may_ring_ ABSL_GUARDED_BY(mu_);
  bool offered_ ABSL_GUARDED_BY(mu_) = false;
  bool on_ring_ ABSL_GUARDED_BY(mu_) = false;  // our messages go through our ring
  bool pumping_ ABSL_GUARDED_BY(mu_) = false;  // a thread empties queue_
  bool flush_ ABSL_GUARDED_BY(mu_) = false;
  bool wire_dirty_ ABSL_GUARDED_BY(mu_) = false;             // something is queued below
  std::optional<absl::Status> close_ ABSL_GUARDED_BY(mu_);   // Close was called with it
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mu_);  // what closed the stream
  absl::Status broken_ ABSL_GUARDED_BY(mu_);

  // Of the thread that reads the ring.
  PlaceReader resolver_;
  std::vector<SharedRange> ranges_;
  bool stalled_ = false;  // the next message comes by the wire

  PlaceReader wire_resolver_;  // of the wire's thread
  const std::atomic<uint32_t> no_bell_ = 0;
  Mutex wire_mu_;
  std::deque<Message> wire_ ABSL_GUARDED_BY(wire_mu_);  // came after the peer's turn
};

}  // namespace muster::rpc
