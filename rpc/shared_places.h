// Places: payloads in shared memory as one process tells them to another, and back.
//
// Sharing is thread-safe and outlives the transport it belongs to with its last stream; a
// PlaceWriter or PlaceReader belongs to one direction of a stream and is thread-compatible. They
// remember the region of the last payload, which is nearly always the next one's.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "rpc/ring_poller.h"
#include "rpc/shared_regions.h"
#include "telemetry/log.h"

namespace muster::rpc {

inline constexpr size_t kMostRanges = 1024;  // of one payload

// What all streams of a shared transport have in common.
struct Sharing {
  Sharing(std::unique_ptr<SharedRegions> r, Log& l, size_t least)
      : regions(std::move(r)), log(l), least_bytes(least) {}
  const std::unique_ptr<SharedRegions> regions;
  Log& log;
  const size_t least_bytes;          // of a payload that is shared where messages take the wire
  std::atomic<int64_t> bytes = 0;    // of payloads that travelled as places
  std::atomic<int64_t> records = 0;  // messages that went through rings
  RingPoller poller;
};

class PlaceWriter {
 public:
  PlaceWriter(Sharing& sharing, SharedLink link) : sharing_(sharing), link_(std::move(link)) {}
  // Where the ranges of `payload` lie, if all of them are in memory that the peer has mapped.
  std::optional<std::span<const SharedRange>> Find(const Payload& payload);

 private:
  Sharing& sharing_;
  const SharedLink link_;
  FoundRange last_;
  std::vector<SharedRange> ranges_;
};

class PlaceReader {
 public:
  PlaceReader(Sharing& sharing, SharedLink link) : sharing_(sharing), link_(std::move(link)) {}
  // The payload that the peer means. Fails when there are no such bytes, or too many.
  absl::StatusOr<Payload> Resolve(std::span<const SharedRange> ranges);

 private:
  Sharing& sharing_;
  const SharedLink link_;
  uint64_t region_ = 0;
  std::shared_ptr<SharedMemory> memory_;  // of region_
};

// The same over the wire, in place of a payload.
Payload PlacesToPayload(std::span<const SharedRange> ranges);
absl::StatusOr<Payload> PlacesFromPayload(PlaceReader& reader, const Payload& places);

}  // namespace muster::rpc
