#include "rpc/ring.h"

#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>

#include "telemetry/check.h"

namespace muster::rpc {
namespace {

constexpr uint32_t kMostInline = kRingBytes / 4;

// <linux/futex.h> of Debian 12 has these; the call's number is the same on all architectures.
constexpr long kFutexWaitv = 449;
constexpr uint32_t kFutexU32 = 2;

const uint32_t* AddressOf(const std::atomic<uint32_t>& word) {
  return reinterpret_cast<const uint32_t*>(&word);
}

}  // namespace

Ring::Ring(std::span<std::byte> own, std::span<const std::byte> peer)
    : own_(*reinterpret_cast<RingControl*>(own.data())),
      peer_(*reinterpret_cast<const RingControl*>(peer.data())),
      out_(own.data() + sizeof(RingControl)),
      in_(peer.data() + sizeof(RingControl)) {
  CHECK(own.size() == kRingMemoryBytes && peer.size() == kRingMemoryBytes);
}

absl::StatusOr<bool> Ring::Write(const Record& record, std::span<const Payload::Slice> ranges) {
  CHECK(record.bytes <= kMostInline);
  const size_t size = Size(record.bytes);
  const auto fits = [&](uint64_t consumed) -> absl::StatusOr<bool> {
    if (consumed - freed_ > written_ - freed_) {
      return absl::InvalidArgumentError("a peer says that it has read what was never written");
    }
    freed_ = consumed;
    return kRingBytes - (written_ - consumed) >= size;
  };
  if (kRingBytes - (written_ - freed_) < size) {
    ASSIGN_OR_RETURN(bool room, fits(peer_.consumed.load(std::memory_order_acquire)));
    if (!room) {
      refused_at_.store(freed_, std::memory_order_relaxed);
      own_.starving.store(1, std::memory_order_seq_cst);
      ASSIGN_OR_RETURN(room, fits(peer_.consumed.load(std::memory_order_seq_cst)));
      if (!room) return false;
    }
  }
  own_.starving.store(0, std::memory_order_relaxed);
  const Prefix prefix = {static_cast<uint32_t>(record.kind), record.bytes};
  const uint64_t end = written_ + size;
  CopyIn(reinterpret_cast<const std::byte*>(&prefix), sizeof(prefix));
  CopyIn(reinterpret_cast<const std::byte*>(&record.header), sizeof(Header));
  for (const Payload::Slice& slice : ranges) {
    CopyIn(slice.bytes.data(), slice.bytes.size());
  }
  written_ = end;
  own_.produced.store(written_, std::memory_order_release);
  return true;
}

void Ring::WakeReader() {
  own_.produced.store(written_, std::memory_order_seq_cst);
  const uint32_t ticket = peer_.asleep.load(std::memory_order_seq_cst);
  if (ticket == 0 || ticket == rung_for_sleep_) return;
  rung_for_sleep_ = ticket;
  RingBell();
}

absl::StatusOr<bool> Ring::Peek(Record* record) {
  const uint64_t left = peer_.produced.load(std::memory_order_acquire) - read_;
  if (left == 0) return false;
  Prefix prefix;
  if (left > kRingBytes || left < Size(0)) {
    return absl::InvalidArgumentError(
        fmt::format("a peer says that {} bytes wait in a ring of {}", left, kRingBytes));
  }
  CopyOut(read_, reinterpret_cast<std::byte*>(&prefix), sizeof(prefix));
  if (prefix.bytes > kMostInline || Size(prefix.bytes) > left ||
      prefix.kind < static_cast<uint32_t>(Kind::kInline) ||
      prefix.kind > static_cast<uint32_t>(Kind::kReturn)) {
    return absl::InvalidArgumentError(
        fmt::format("a peer's ring holds a record of kind {} with {} bytes, where {} are left",
                    prefix.kind, prefix.bytes, left));
  }
  record->kind = static_cast<Kind>(prefix.kind);
  record->bytes = prefix.bytes;
  CopyOut(read_ + sizeof(prefix), reinterpret_cast<std::byte*>(&record->header), sizeof(Header));
  return true;
}

void Ring::Take(const Record& record, std::byte* to) {
  CopyOut(read_ + sizeof(Prefix) + sizeof(Header), to, record.bytes);
  read_ += Size(record.bytes);
  own_.consumed.store(read_, std::memory_order_release);
}

void Ring::WakeWriter() {
  own_.consumed.store(read_, std::memory_order_seq_cst);
  if (peer_.starving.load(std::memory_order_seq_cst) == 0 || rung_at_ == read_) return;
  rung_at_ = read_;
  RingBell();
}

void Ring::FallAsleep() { own_.asleep.store(slept_ += 2, std::memory_order_seq_cst); }

bool Ring::room() const {
  return peer_.consumed.load(std::memory_order_seq_cst) !=
         refused_at_.load(std::memory_order_relaxed);
}

void Ring::RingBell() {
  own_.bell.fetch_add(1, std::memory_order_seq_cst);
  WakeSleepers(own_.bell);
}

void Ring::CopyIn(const std::byte* from, size_t size) {
  const size_t at = written_ % kRingBytes, first = std::min(size, kRingBytes - at);
  if (size == 0) return;
  std::memcpy(out_ + at, from, first);
  std::memcpy(out_, from + first, size - first);
  written_ += size;
}

void Ring::CopyOut(uint64_t from, std::byte* to, size_t size) const {
  const size_t at = from % kRingBytes, first = std::min(size, kRingBytes - at);
  if (size == 0) return;
  std::memcpy(to, in_ + at, first);
  std::memcpy(to + first, in_, size - first);
}

bool CanAwaitBells() {
  return syscall(kFutexWaitv, nullptr, 0, 0, nullptr, 0) == -1 && errno == EINVAL;
}

void AwaitBells(std::span<const Bell> bells, std::chrono::steady_clock::time_point deadline) {
  struct Waiter {
    uint64_t value, address;
    uint32_t flags, reserved;
  };
  CHECK(bells.size() <= kMostBells);
  std::array<Waiter, kMostBells> waiters{};
  for (size_t i = 0; i < bells.size(); ++i) {
    waiters[i] = {bells[i].value, reinterpret_cast<uint64_t>(AddressOf(*bells[i].word)), kFutexU32,
                  0};
  }
  // steady_clock is CLOCK_MONOTONIC here.
  const auto since = deadline.time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(since);
  const struct timespec until = {
      static_cast<time_t>(seconds.count()),
      static_cast<long>(std::chrono::nanoseconds(since - seconds).count())};
  const bool for_ever = deadline == std::chrono::steady_clock::time_point::max();
  syscall(kFutexWaitv, waiters.data(), bells.size(), 0, for_ever ? nullptr : &until,
          CLOCK_MONOTONIC);
}

void WakeSleepers(const std::atomic<uint32_t>& word) {
  syscall(SYS_futex, AddressOf(word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace muster::rpc
