// WeightArenas: where a worker reads its parameters, in two parities of one arena [arena_size].
//
// A slice that its server's shard wrote into memory that both processes map, and leaves alone until
// nobody reads it any more (PARAMS with rpc::kInPlace, invariant 1 of ps/slice.h), is not copied:
// its whole pages are mapped into the arena of the clock's parity once, and hold every second
// version from then on. What a page shares with a neighbour, what came over a wire or encoded,
// and small slices are copied; for these both parities are the same memory.
//
// Thread-safe for different slices; at() is the reader's, between two Waits. Owns the memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ps/param.h"
#include "rpc/message.h"
#include "telemetry/status.h"

namespace muster::ps {

class WeightArenas {
 public:
  // All zero. Borrows `table` and `partition`. Fails when the system has no memory left to map.
  static absl::StatusOr<std::unique_ptr<WeightArenas>> Create(const ParamTable& table,
                                                              const Partition& partition);
  ~WeightArenas();
  WeightArenas(const WeightArenas&) = delete;
  WeightArenas& operator=(const WeightArenas&) = delete;

  // The parameters of `clock`, of which all slices were taken: unchanged until those of the next
  // clock are taken, and those in place until the reader has pushed two steps more.
  std::span<const float> At(int64_t clock) const;

  // Brings slice `id` to the parameters of `clock`; a `delta` (ps/pulled.h), from those of the
  // clock before. Fails when the system has no memory left to map, or when they cannot be decoded.
  // PRECONDITION: `payload` has PullBytes.
  absl::Status Take(int32_t id, int64_t clock, const rpc::Payload& payload, bool in_place,
                    bool delta = false);

  // Bytes of the parity that are read where their servers wrote them.
  int64_t bytes_in_place(int64_t clock) const;

 private:
  // Where the pages of a slice in one parity are mapped from.
  struct Place {
    std::span<const std::byte> source;  // empty: they are our own memory
    std::shared_ptr<const void> owner;  // keeps another memory from getting the same addresses
  };
  // Of an arena, in bytes.
  struct Pages {
    size_t begin = 0, size = 0;
  };

  WeightArenas(const ParamTable& table, const Partition& partition, int fd, size_t bytes);
  // The whole pages among bytes [begin, begin + size) of an arena.
  static Pages PagesWithin(size_t begin, size_t size);
  // Makes `pages` of `arena` those of `source`. False when that cannot be.
  absl::StatusOr<bool> MapThere(Place& place, std::byte* arena, Pages pages,
                                const rpc::Payload::Slice& source);
  // Makes them our own again, with whatever is in there.
  absl::Status MapBack(Place& place, std::byte* arena, Pages pages);

  const ParamTable& table_;
  const Partition& partition_;
  const int fd_;        // of our own memory
  const size_t bytes_;  // of one parity, whole pages
  std::byte* parities_[2] = {nullptr, nullptr};
  std::vector<Place> places_[2];  // by slice
};

}  // namespace muster::ps
