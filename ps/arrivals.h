// Arrivals: the parameters that a client has asked for: where they go, which slices of which clock
// are still to come, and which lie there, since some travel as what they changed by (ps/pulled.h).
//
// Thread-compatible; Landing::Take alone needs no lock. Borrows table, partition and arena.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ps/param.h"
#include "ps/weight_arenas.h"
#include "rpc/message.h"
#include "telemetry/status.h"

namespace muster::ps {

class Arrivals {
 public:
  using Clock = std::chrono::steady_clock;
  Arrivals(const ParamTable& table, const Partition& partition)
      : table_(table), partition_(partition), held_(partition.slices.size()) {}

  // Where the parameters go that are asked for from now on.
  void SetArena(std::span<float> arena);
  void SetArenas(std::shared_ptr<WeightArenas> arenas);

  // The slice's parameters of `clock` were asked for; each time counts.
  // PRECONDITION: they have a place to go.
  void Expect(int64_t clock, int32_t slice);
  // How many answers are still to come of `clock`.
  int64_t missing(int64_t clock) const;
  // Whether the slice's parameters of `clock` lie there.
  bool Holds(int32_t slice, int64_t clock) const {
    return held_[static_cast<size_t>(slice)].clock == clock;
  }

  // The parameters of a slice that came last. Deltas are added to them.
  struct Held {
    int64_t clock = -1;       // -1: none
    float* values = nullptr;  // null: in the WeightArenas
  };
  // Where an answer goes.
  struct Landing {
    const ParamSpec* spec = nullptr;
    Held held;
    std::shared_ptr<WeightArenas> arenas;  // which know better than
    std::span<float> out;

    // Brings the slice to what the message says. Fails when it cannot be decoded, or is a delta of
    // other parameters than those that are there. Thread-safe for different slices.
    absl::Status Take(const rpc::Message& message) const;
  };
  // Nothing when nobody has asked for it.
  std::optional<Landing> Find(const rpc::Header& answer) const;
  // It came at that time. PRECONDITION: its Take has succeeded.
  void Landed(const rpc::Header& answer, const Landing& landing, Clock::time_point came);

  // Nobody waits for the parameters of `clock` and of earlier ones any more. When the first answer
  // of `clock` came, if it was asked for.
  std::optional<Clock::time_point> Close(int64_t clock);

 private:
  // Of one clock.
  struct Pending {
    std::span<float> arena;
    std::shared_ptr<WeightArenas> arenas;
    std::vector<int32_t> missing;  // by slice: answers still to come
    int64_t total_missing = 0;
    Clock::time_point first = Clock::time_point::max();  // when the first answer came
  };

  const ParamTable& table_;
  const Partition& partition_;
  std::map<int64_t, Pending> pending_;  // by clock
  std::vector<Held> held_;              // by slice
  std::span<float> arena_;
  std::shared_ptr<WeightArenas> arenas_;  // or null: arena_
};

}  // namespace muster::ps
