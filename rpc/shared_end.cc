#include "rpc/shared_end.h"

#include <cstring>
#include <utility>

#include "rpc/stream_end.h"

namespace muster::rpc {
namespace {

// `code` of a kRingNote.
enum RingNote : uint16_t { kOffer = 1, kTurn = 2, kReturned = 3 };

bool IsReturn(const Header& header) {
  return (header.flags & kRingNote) != 0 && header.code == kReturned;
}

constexpr int kPollBudget = 64;                // messages of one stream before the next one's turn
constexpr size_t kMostInlineBytes = 32 << 10;  // larger ones take the wire
// That a peer may have: one that returns nothing gets the bytes by the wire.
constexpr size_t kMostLoans = 1024;
static_assert(kMostInlineBytes <= kRingBytes / 4);
static_assert(kMostRanges * sizeof(SharedRange) <= kRingBytes / 4);

absl::Status CheckReceived(const Header& header) {
  if (header.magic == Header::kMagic && header.type > MessageType::kHello &&
      header.type < MessageType::kClose) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("a peer's ring holds what is no message");
}

}  // namespace

SharedEnd::SharedEnd(std::shared_ptr<Sharing> sharing, SharedLink link, bool ring)
    : sharing_(std::move(sharing)),
      link_(std::move(link)),
      joined_(sharing_->regions->Join(link_)),
      places_(*sharing_, link_),
      may_ring_(ring),
      resolver_(*sharing_, link_),
      wire_resolver_(*sharing_, link_) {}

SharedEnd::~SharedEnd() {
  MutexLock lock(mu_);
  PartOnce();
}

void SharedEnd::PartOnce() {
  if (std::exchange(joined_, false)) sharing_->regions->Part(link_);
}

void SharedEnd::Begin(const std::shared_ptr<Stream>& below) {
  MutexLock lock(mu_);
  below_ = below;
  if (closed_) return;
  sharing_->regions->Show(link_, below->peer().shared_memory);
  MakeRingMemory();
}

void SharedEnd::MakeRingMemory() {
  if (!may_ring_ || own_memory_ != nullptr) return;
  own_memory_ = sharing_->regions->Allocate(kRingMemoryBytes);
  may_ring_ = own_memory_ != nullptr;
}

template <typename Call>
auto SharedEnd::Unlocked(Call call) {
  mu_.Unlock();
  auto result = call();
  mu_.Lock();
  return result;
}

// Sending.

absl::Status SharedEnd::Send(Stream& below, Message message, bool flush) {
  RETURN_IF_ERROR(CheckSendable(message));
  message.header.flags &= static_cast<uint8_t>(~(kSharedPayload | kRingNote));
  message.header.payload_bytes = message.payload.size();
  MutexLock lock(mu_);
  if (closed_) return SendAfterClose(*closed_);
  if (close_) return SendAfterClose(*close_);
  queue_.push_back(std::move(message));
  flush_ |= flush;
  return Pump(below);
}

void SharedEnd::Flush(Stream& below) {
  MutexLock lock(mu_);
  flush_ = true;
  Pump(below).IgnoreError();
}

void SharedEnd::Return(uint64_t loan) {
  MutexLock lock(mu_);
  const std::shared_ptr<Stream> below = below_.lock();
  if (below == nullptr || closed_ || close_) return;
  Message message;
  message.header.type = MessageType::kControl;
  message.header.flags = kRingNote;
  message.header.code = kReturned;
  message.header.loan = loan;
  queue_.push_back(std::move(message));
  Pump(*below).IgnoreError();  // without waking the peer: there is no hurry
}

absl::Status SharedEnd::Pump(Stream& below) {
  if (pumping_) return absl::OkStatus();
  pumping_ = true;
  absl::Status status;
  blocked_.store(false, std::memory_order_relaxed);
  while (status.ok()) {
    if (!queue_.empty() && !blocked_.load(std::memory_order_relaxed)) {
      status = PumpOne(below);
    } else if (std::exchange(flush_, false)) {
      if (on_ring_) ring_owner_->WakeReader();
      if (std::exchange(wire_dirty_, false)) Unlocked([&] { return below.Flush(), 0; });
    } else {
      break;
    }
  }
  if (!status.ok()) queue_.clear();
  pumping_ = false;
  if (close_ && !closed_) FinishClose(below);
  return status;
}

absl::Status SharedEnd::PumpOne(Stream& below) {
  if (may_ring_ && !on_ring_ && !closed_) TurnToRing(below);
  if (queue_.empty()) return absl::OkStatus();  // closed meanwhile
  if (on_ring_) {
    bool takes_wire = false;
    ASSIGN_OR_RETURN(const bool written, WriteRecord(queue_.front(), &takes_wire));
    if (!written) {
      blocked_ = true;
      // The bell may have rung before the poller could see that.
      if (ring_owner_->room()) blocked_ = false;
      flush_ = true;  // who shall make room must know that there is something
      return absl::OkStatus();
    }
    sharing_->records.fetch_add(1, std::memory_order_relaxed);
    if (!takes_wire) {
      queue_.pop_front();
      return absl::OkStatus();
    }
  }
  Message message = std::move(queue_.front());
  queue_.pop_front();
  if (!on_ring_) ToPlaces(message);
  wire_dirty_ = true;
  return Unlocked([&] { return below.Queue(std::move(message)); });
}

void SharedEnd::TurnToRing(Stream& below) {
  const auto note = [&](RingNote code, Payload payload) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    Message message;
    message.header.type = MessageType::kControl;
    message.header.code = code;
    message.header.flags = kRingNote;
    message.payload = std::move(payload);
    return Unlocked([&] { return below.Send(std::move(message)).ok(); });
  };
  if (!offered_) {
    const auto found = sharing_->regions->Find(link_, {own_memory_.get(), kRingMemoryBytes});
    if (!found.has_value()) return;
    may_ring_ = sharing_->poller.Add(shared_from_this());
    if (!may_ring_) return;
    offered_ = true;
    const SharedRange range = found->range;
    if (!note(kOffer, PlacesToPayload({&range, 1}))) return;
  }
  if (ring_owner_ == nullptr || !note(kTurn, {})) return;
  on_ring_ = true;
  sharing_->log.Info("messages for {}-{} go through a ring in shared memory", below.peer().role,
                     below.peer().index);
}

absl::StatusOr<bool> SharedEnd::WriteRecord(const Message& message, bool* takes_wire) {
  Ring::Record record;
  record.header = message.header;
  if (IsReturn(message.header)) {
    record.kind = Ring::Kind::kReturn;
    return ring_owner_->Write(record, {});
  }
  const bool lends = message.payload.lent();
  const auto ranges =
      lends && lent_.size() >= kMostLoans ? std::nullopt : places_.Find(message.payload);
  if (ranges.has_value()) {
    const Payload::Slice places = {std::as_bytes(*ranges), nullptr};
    record.kind = lends ? Ring::Kind::kLent : Ring::Kind::kPlaces;
    record.bytes = static_cast<uint32_t>(ranges->size_bytes());
    record.header.loan = lends ? next_loan_ : 0;
    ASSIGN_OR_RETURN(const bool written, ring_owner_->Write(record, {&places, 1}));
    if (written && lends) lent_.emplace(next_loan_++, message.payload);
    return written;
  }
  if (message.payload.size() <= kMostInlineBytes) {
    record.bytes = static_cast<uint32_t>(message.payload.size());
    return ring_owner_->Write(record, message.payload.slices());
  }
  *takes_wire = true;
  record.kind = Ring::Kind::kWire;
  return ring_owner_->Write(record, {});
}

void SharedEnd::ToPlaces(Message& message) {
  // Loans need the ring.
  if (message.payload.size() < sharing_->least_bytes || message.payload.lent()) return;
  const auto ranges = places_.Find(message.payload);
  if (!ranges.has_value()) return;
  message.payload = PlacesToPayload(*ranges);
  message.header.flags |= kSharedPayload;
}

void SharedEnd::Close(Stream& below, absl::Status status) {
  MutexLock lock(mu_);
  if (close_) return;
  deaf_ = true;
  close_ = std::move(status);
  if (!pumping_) FinishClose(below);
}

// What found no room in the ring goes by the wire: the peer reads that after all that is in the
// ring.
void SharedEnd::FinishClose(Stream& below) {
  pumping_ = true;
  std::deque<Message> left;
  left.swap(queue_);
  const absl::Status status = *close_;
  Unlocked([&] {
    for (Message& message : left) below.Queue(std::move(message)).IgnoreError();
    below.Close(status);
    return 0;
  });
}

// Receiving.

void SharedEnd::OnMessage(Message message) {
  if (deaf_) return;
  if ((message.header.flags & kRingNote) != 0) return OnNote(message);
  if ((message.header.flags & kSharedPayload) != 0) {
    absl::StatusOr<Payload> payload = PlacesFromPayload(wire_resolver_, message.payload);
    if (!payload.ok()) return Break(payload.status());
    message.payload = *std::move(payload);
    message.header.payload_bytes = message.payload.size();
    message.header.flags &= static_cast<uint8_t>(~kSharedPayload);
  }
  if (!reading_) return handler_->OnMessage(std::move(message));
  {
    MutexLock lock(wire_mu_);
    wire_.push_back(std::move(message));
  }
  on_wire_.fetch_add(1, std::memory_order_seq_cst);
  sharing_->poller.Wake();
}

void SharedEnd::OnBatchEnd() {
  if (!reading_ && !deaf_) handler_->OnBatchEnd();
}

void SharedEnd::OnNote(const Message& note) {
  if (note.header.code == kOffer) {
    if (absl::Status status = TakeOffer(note); !status.ok()) Break(std::move(status));
    return;
  }
  if (note.header.code == kReturned) {
    if (absl::Status status = Returned(note.header.loan); !status.ok()) {
      Break(std::move(status));
    }
    return;
  }
  if (note.header.code != kTurn || ring_.load() == nullptr || reading_) {
    return Break(absl::InvalidArgumentError("a peer turns to a ring that it has not shown"));
  }
  handler_->OnBatchEnd();
  reading_ = true;
  sharing_->poller.Wake();
}

absl::Status SharedEnd::Returned(uint64_t loan) {
  std::map<uint64_t, Payload>::node_type returned;  // dropped without the lock
  MutexLock lock(mu_);
  returned = lent_.extract(loan);
  if (returned.empty() && !closed_) {
    return absl::InvalidArgumentError("a peer returns what it was not lent");
  }
  return absl::OkStatus();
}

absl::Status SharedEnd::TakeOffer(const Message& offer) {
  ASSIGN_OR_RETURN(const Payload memory, PlacesFromPayload(wire_resolver_, offer.payload));
  const Payload::Slice& range = memory.slices().front();
  const bool aligned = reinterpret_cast<uintptr_t>(range.bytes.data()) % alignof(RingControl) == 0;
  MutexLock lock(mu_);
  if (memory.slices().size() != 1 || range.bytes.size() != kRingMemoryBytes || !aligned ||
      ring_owner_ != nullptr) {
    return absl::InvalidArgumentError("a peer offers a ring that cannot be one");
  }
  MakeRingMemory();
  if (!may_ring_) return absl::OkStatus();
  peer_memory_ = range.owner;
  ring_owner_ = std::make_unique<Ring>(std::span(own_memory_.get(), kRingMemoryBytes), range.bytes);
  ring_.store(ring_owner_.get());
  return absl::OkStatus();
}

bool SharedEnd::Poll() {
  Ring* const ring = ring_.load();
  if (ring == nullptr || over_) return false;
  bool did = reading_ && ReadRing(*ring, kPollBudget);
  if (blocked_ && ring->room()) {
    MutexLock lock(mu_);
    flush_ = true;  // the reader may sleep again
    if (const std::shared_ptr<Stream> below = below_.lock()) Pump(*below).IgnoreError();
    did = true;
  }
  return did;
}

Bell SharedEnd::bell() {
  Ring* const ring = ring_.load();
  if (ring == nullptr || over_) return {&no_bell_, 0};
  return {&ring->bell(), ring->bell().load(std::memory_order_seq_cst)};
}

bool SharedEnd::FallAsleep() {
  Ring* const ring = ring_.load();
  if (ring == nullptr || over_) return true;
  ring->FallAsleep();
  const bool readable = reading_ && !deaf_ && (stalled_ ? on_wire_.load() > 0 : ring->something());
  return !readable && !(blocked_ && ring->room());
}

void SharedEnd::Awake() {
  if (Ring* const ring = ring_.load()) ring->Awake();
}

bool SharedEnd::ReadRing(Ring& ring, int budget) {
  bool did = false;
  for (int i = 0; i < budget && !deaf_; ++i) {
    Message message;
    const absl::StatusOr<bool> next = Next(ring, &message);
    if (!next.ok()) Break(next.status());
    if (!next.ok() || !*next) break;
    handler_->OnMessage(std::move(message));
    did = true;
  }
  if (!did) return false;
  ring.WakeWriter();
  if (!deaf_) handler_->OnBatchEnd();
  return true;
}

absl::StatusOr<bool> SharedEnd::Next(Ring& ring, Message* message) {
  Ring::Record record;
  if (!stalled_) {
    ASSIGN_OR_RETURN(bool any, ring.Peek(&record));
    while (any && record.kind == Ring::Kind::kReturn) {
      ring.Take(record, nullptr);
      ring.WakeWriter();
      RETURN_IF_ERROR(Returned(record.header.loan));
      ASSIGN_OR_RETURN(any, ring.Peek(&record));
    }
    if (!any) return false;
    stalled_ = record.kind == Ring::Kind::kWire;
    if (stalled_) ring.Take(record, nullptr);
  }
  if (stalled_) {
    MutexLock lock(wire_mu_);
    if (wire_.empty()) return false;
    *message = std::move(wire_.front());
    wire_.pop_front();
    on_wire_.fetch_sub(1);
    stalled_ = false;
    return true;
  }
  message->header = record.header;
  RETURN_IF_ERROR(CheckReceived(message->header));
  message->header.flags &= static_cast<uint8_t>(~(kSharedPayload | kRingNote));
  if (record.kind == Ring::Kind::kPlaces || record.kind == Ring::Kind::kLent) {
    if (record.bytes % sizeof(SharedRange) != 0 ||
        record.bytes > kMostRanges * sizeof(SharedRange)) {
      return absl::InvalidArgumentError("a peer's ring points at memory and does not say where");
    }
    ranges_.resize(record.bytes / sizeof(SharedRange));
    ring.Take(record, reinterpret_cast<std::byte*>(ranges_.data()));
    ASSIGN_OR_RETURN(message->payload, resolver_.Resolve(ranges_));
    if (record.kind == Ring::Kind::kLent) {
      message->payload = Borrowed(message->payload, record.header.loan);
    }
  } else {
    const std::shared_ptr<std::byte[]> bytes =
        record.bytes > 0 ? AllocateAligned(record.bytes) : nullptr;
    ring.Take(record, bytes.get());
    if (bytes != nullptr) {
      message->payload = Payload::Borrow({bytes.get(), record.bytes}, bytes);
    }
  }
  message->header.payload_bytes = message->payload.size();
  return true;
}

Payload SharedEnd::Borrowed(const Payload& places, uint64_t loan) {
  const auto give_back = [end = weak_from_this(), loan, places](const void*) {
    if (const std::shared_ptr<SharedEnd> there = end.lock()) there->Return(loan);
  };
  const std::shared_ptr<const void> owner(this, give_back);
  Payload payload;
  for (const Payload::Slice& slice : places.slices()) payload.Append({slice.bytes, owner});
  return payload;
}

void SharedEnd::Break(absl::Status status) {
  deaf_ = true;
  std::shared_ptr<Stream> below;
  {
    MutexLock lock(mu_);
    broken_ = status;
    below = below_.lock();
  }
  if (below != nullptr) below->Close(std::move(status));
}

void SharedEnd::OnClosed(absl::Status status) {
  std::deque<Message> dropped;
  std::map<uint64_t, Payload> loans;
  {
    MutexLock lock(mu_);
    closed_ = status;  // nobody turns to the ring from now on
    dropped.swap(queue_);
  }
  dropped.clear();
  over_ = true;
  sharing_->poller.Remove(this);
  if (reading_) ReadRest();
  {
    MutexLock lock(mu_);
    if (!broken_.ok()) status = broken_;
    PartOnce();
    loans.swap(lent_);
  }
  loans.clear();
  handler_->OnClosed(std::move(status));
  handler_.reset();
}

void SharedEnd::ReadRest() {
  while (ReadRing(*ring_.load(), kPollBudget)) {
  }
  std::deque<Message> left;
  {
    MutexLock lock(wire_mu_);
    left.swap(wire_);
  }
  for (Message& message : left) {
    if (!deaf_) handler_->OnMessage(std::move(message));
  }
  if (!deaf_) handler_->OnBatchEnd();
}

}  // namespace muster::rpc
