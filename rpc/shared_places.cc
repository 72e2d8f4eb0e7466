#include "rpc/shared_places.h"

#include <cstring>

namespace muster::rpc {

std::optional<std::span<const SharedRange>> PlaceWriter::Find(const Payload& payload) {
  if (payload.size() == 0 || payload.slices().size() > kMostRanges) return std::nullopt;
  ranges_.clear();
  for (const Payload::Slice& slice : payload.slices()) {
    if (last_.memory != nullptr) {
      const std::span<std::byte> memory = last_.memory->bytes();
      // Addresses as numbers: the two may have nothing to do with each other.
      const size_t offset = reinterpret_cast<uintptr_t>(slice.bytes.data()) -
                            reinterpret_cast<uintptr_t>(memory.data());
      const SharedRange range = {last_.range.region, offset, slice.bytes.size()};
      if (range.IsIn(*last_.memory)) {
        ranges_.push_back(range);
        continue;
      }
    }
    std::optional<FoundRange> found = sharing_.regions->Find(link_, slice.bytes);
    if (!found.has_value()) return std::nullopt;
    ranges_.push_back(found->range);
    last_ = *std::move(found);
  }
  sharing_.bytes.fetch_add(static_cast<int64_t>(payload.size()), std::memory_order_relaxed);
  return ranges_;
}

absl::StatusOr<Payload> PlaceReader::Resolve(std::span<const SharedRange> ranges) {
  Payload payload;
  for (const SharedRange& range : ranges) {
    if (range.region != region_ || memory_ == nullptr || !range.IsIn(*memory_)) {
      ASSIGN_OR_RETURN(memory_, sharing_.regions->Resolve(link_, range));
      region_ = range.region;
    }
    if (range.size > kMaxPayloadBytes - payload.size()) {
      return absl::InvalidArgumentError("a message points at more bytes than one may have");
    }
    payload.Append({memory_->bytes().subspan(range.offset, range.size), memory_, /*shared=*/true});
  }
  return payload;
}

Payload PlacesToPayload(std::span<const SharedRange> ranges) {
  return Payload::Own(
      std::string(reinterpret_cast<const char*>(ranges.data()), ranges.size_bytes()));
}

absl::StatusOr<Payload> PlacesFromPayload(PlaceReader& reader, const Payload& places) {
  const size_t size = places.size();
  if (size == 0 || size % sizeof(SharedRange) != 0 || size > kMostRanges * sizeof(SharedRange)) {
    return absl::InvalidArgumentError("a message points at shared memory and does not say where");
  }
  std::vector<SharedRange> ranges(size / sizeof(SharedRange));
  std::memcpy(ranges.data(), places.Flatten().data(), size);
  return reader.Resolve(ranges);
}

}  // namespace muster::rpc
