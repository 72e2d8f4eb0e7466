// Ring: both directions of a stream in shared memory. Each end owns one piece of memory, a control
// block and a ring of bytes that only it writes; the peer maps it for reading. So neither end can
// damage the other's, and everything that is read here was written by a stranger: it is copied
// first and checked then.
//
// One end's memory: RingControl, then kRingBytes of records. A record is a prefix, a Header and
// some bytes, padded to 8; it may wrap around.
//
// Sleeping (futex, no system call when the other end is awake). An end that finds nothing to do
// says so in its control block with a new ticket, looks once more, and waits for the peer's bell to
// change. An end that has written something, and sees a ticket that it has not yet rung for,
// changes its bell and wakes. The stores and loads in between are sequentially consistent: either
// the sleeper sees the record, or the writer sees the ticket. The same holds for room: a writer
// that finds the ring full says that it starves, looks once more, and sleeps; a reader that has
// freed something and sees that rings its bell.
//
// At most one thread at a time writes (Write, WakeReader), and one reads (the rest); room may be
// asked by either. Borrows the memory.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include "rpc/message.h"
#include "telemetry/status.h"

namespace muster::rpc {

struct RingControl {
  alignas(64) std::atomic<uint64_t> produced;  // bytes ever written to this end's ring
  std::atomic<uint32_t> starving;              // its writer waits for room
  alignas(64) std::atomic<uint64_t> consumed;  // bytes ever read from the peer's ring
  alignas(64) std::atomic<uint32_t> asleep;    // the reader's ticket; 0: it is awake
  alignas(64) std::atomic<uint32_t> bell;      // changes when this end wakes the other
};
static_assert(std::atomic<uint64_t>::is_always_lock_free && sizeof(std::atomic<uint32_t>) == 4);

inline constexpr size_t kRingBytes = 256 << 10;
inline constexpr size_t kRingMemoryBytes = sizeof(RingControl) + kRingBytes;

class Ring {
 public:
  enum class Kind : uint32_t {
    kInline = 1,  // the bytes are the payload
    kPlaces = 2,  // they say where in shared memory the payload lies
    kWire = 3,    // no bytes: the next message of the stream below belongs here
    kLent = 4,    // as kPlaces, and header.loan names the loan, which is to be returned
    kReturn = 5,  // no bytes and no message: the peer no longer reads that loan
  };
  struct Record {
    Kind kind = Kind::kInline;
    uint32_t bytes = 0;  // after the header
    Header header;
  };

  // `own` and `peer` have kRingMemoryBytes each, aligned to 64; `own` was all zero.
  Ring(std::span<std::byte> own, std::span<const std::byte> peer);

  // Copies a record into the ring: false when there is no room for it, and the peer is told to ring
  // when there is. Fails when the peer's control block makes no sense. REQUIRES: record.bytes, the
  // size of all ranges, is at most kRingBytes / 4.
  absl::StatusOr<bool> Write(const Record& record, std::span<const Payload::Slice> ranges);
  // After Write, by a thread that may Write: wakes the peer if it sleeps.
  void WakeReader();

  // The next record, without its bytes: false when there is none. Fails when the peer wrote
  // something else.
  absl::StatusOr<bool> Peek(Record* record);
  // Copies the bytes of the record that Peek gave, and frees it.
  void Take(const Record& record, std::byte* to);
  // After Take: wakes the peer if it waits for room.
  void WakeWriter();

  // Before sleeping: tells the peer. The caller then looks once more (something(), room), and waits
  // while bell() has the value that it had before.
  void FallAsleep();
  void Awake() { own_.asleep.store(0, std::memory_order_relaxed); }
  bool something() const { return peer_.produced.load(std::memory_order_seq_cst) != read_; }
  // Whether a writer that found the ring full should try again.
  bool room() const;
  const std::atomic<uint32_t>& bell() const { return peer_.bell; }

 private:
  struct Prefix {
    uint32_t kind = 0;
    uint32_t bytes = 0;
  };
  static size_t Size(uint32_t bytes) {
    return sizeof(Prefix) + sizeof(Header) + (bytes + 7) / 8 * 8;
  }
  void RingBell();
  void CopyIn(const std::byte* from, size_t size);
  void CopyOut(uint64_t from, std::byte* to, size_t size) const;

  RingControl& own_;
  const RingControl& peer_;
  std::byte* const out_;
  const std::byte* const in_;

  // Of the writer.
  uint64_t written_ = 0;
  uint64_t freed_ = 0;  // the peer had read so much when we last looked
  uint32_t rung_for_sleep_ = 0;
  // Of the reader.
  uint64_t read_ = 0;
  uint32_t slept_ = 1;    // tickets: odd, so never 0
  uint64_t rung_at_ = 0;  // read_ when we last rang for room

  std::atomic<uint64_t> refused_at_ = 0;  // the peer had read so much when a record did not fit
};

// Whether this system can sleep on several bells at once (Linux 5.16).
bool CanAwaitBells();

// One word that a thread sleeps on, and the value that it had when the thread decided to.
struct Bell {
  const std::atomic<uint32_t>* word = nullptr;
  uint32_t value = 0;
};
inline constexpr size_t kMostBells = 128;  // of one AwaitBells

// Sleeps until one of the words changes, `deadline`, or for no reason. REQUIRES: bells.size() <=
// kMostBells.
void AwaitBells(std::span<const Bell> bells, std::chrono::steady_clock::time_point deadline =
                                                 std::chrono::steady_clock::time_point::max());
// Wakes whoever sleeps on `word`, in any process.
void WakeSleepers(const std::atomic<uint32_t>& word);

}  // namespace muster::rpc
