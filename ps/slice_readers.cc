// Slice's answers: who waits for which version, and how it is answered (invariants 1, 2 and 4 of
// ps/slice.h).
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "ps/slice.h"
#include "ps/wire.h"

namespace muster::ps {
namespace {

// Readers of one slice that may wait, per replica: beyond it, someone asks without waiting.
constexpr size_t kReadersPerReplica = 16;

}  // namespace

void Slice::OnPull(const std::shared_ptr<Peer>& peer, const rpc::Message& message) {
  const rpc::Header& header = message.header;
  if ((header.flags & kAskClock) != 0) {
    rpc::Header answer = header;
    answer.step = state_.clocks[header.replica];
    // Whoever goes on with replica 0 has to gather the norms of a step that is not applied; with
    // backup workers it has to say that its step's gradient is whole.
    if ((needs_norms_ && header.replica == 0) || backups() > 0) {
      answer.step = std::min(answer.step, state_.version);
    }
    context_.outbox->Send(*peer, AckMessage(answer, AckCode::kConsumed));
    return;
  }
  const bool all_at_clock = (header.flags & rpc::kAllAtClock) != 0;
  readers_.push_back({peer, static_cast<int32_t>(header.replica), header.step, header.version,
                      all_at_clock,
                      /*in_place=*/false,
                      /*holds=*/false});
  AnswerReaders();
}

void Slice::AddReader(const std::shared_ptr<Peer>& peer, const rpc::Header& header, bool in_place) {
  readers_.push_back({peer, static_cast<int32_t>(header.replica), header.step + 1, -1, false,
                      in_place, (header.flags & kHoldsParams) != 0});
}

rpc::Header Slice::HeaderOf(const Reader& reader) const {
  return PullMessage(id_, reader.replica, reader.clock, reader.version, reader.all_at_clock).header;
}

absl::StatusOr<bool> Slice::Ready(const Reader& reader, int64_t& version) const {
  const bool exact = reader.version >= 0;
  if (exact) {
    if (state_.version < reader.version) return false;
    version = reader.version;
  } else {
    const int64_t needed =
        reader.all_at_clock ? reader.clock : context_.policy->MinClockToRead(reader.clock);
    if (state_.min_clock() < needed) return false;
    version = context_.policy->exact() ? reader.clock : state_.version;
  }
  if (version > state_.version)
    return false;  // poisoned: clocks count held gradients that were given up
  if (version >= oldest_version_) return true;
  if (!poisoned_.ok()) return poisoned_;
  return absl::OutOfRangeError(
      fmt::format("replica {} asks for version {} of {}, which is at version {} and keeps only the "
                  "one before; its step was done by another",
                  reader.replica, version, Name(), state_.version));
}

void Slice::AnswerReaders() {
  size_t kept = 0;
  for (size_t i = 0; i < readers_.size(); ++i) {
    Reader& reader = readers_[i];
    int64_t version = 0;
    const absl::StatusOr<bool> ready = Ready(reader, version);
    if (!ready.ok() && backups() > 0 && absl::IsOutOfRange(ready.status())) {
      context_.outbox->Send(*reader.peer, AckMessage(HeaderOf(reader), AckCode::kGone));
    } else if (!ready.ok()) {
      Refuse(*reader.peer, HeaderOf(reader), ready.status());
    } else if (*ready) {
      Answer(reader, version);
    } else if (!poisoned_.ok()) {
      Refuse(*reader.peer, HeaderOf(reader), poisoned_);
    } else {
      if (kept != i) readers_[kept] = std::move(reader);
      ++kept;
    }
  }
  readers_.resize(kept);
  while (readers_.size() > kReadersPerReplica * state_.clocks.size()) {
    Refuse(*readers_.back().peer, HeaderOf(readers_.back()),
           absl::ResourceExhaustedError(
               fmt::format("{} readers wait for {} already", readers_.size() - 1, Name())));
    readers_.pop_back();
  }
}

void Slice::Answer(const Reader& reader, int64_t version) {
  const TraceSpan span = Traced("answer", reader.clock - 1, reader.replica);
  SliceValues::Reading read =
      values_.Read(version, /*front=*/version == state_.version, reader.in_place, reader.holds);
  rpc::Message answer =
      ParamsMessage(id_, reader.replica, reader.clock, version, std::move(read.values));
  if (reader.in_place) answer.header.flags |= rpc::kInPlace;
  if (read.delta) answer.header.flags |= kDelta;
  Count(context_.counters->answers);
  Count(context_.counters->bytes_out, static_cast<int64_t>(answer.payload.size()));
  context_.outbox->Send(*reader.peer, std::move(answer));
}

}  // namespace muster::ps
