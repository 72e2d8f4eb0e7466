// ServerCounters: what a server counts, from any thread. ServerStats (ps/server.h) is a reading of
// them.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "ps/server.h"

namespace muster::ps {

struct ServerCounters {
  std::atomic<int64_t> pushes = 0;
  std::atomic<int64_t> held = 0;
  std::atomic<int64_t> repeated = 0;
  std::atomic<int64_t> dropped = 0;
  std::atomic<int64_t> refused = 0;
  std::atomic<int64_t> applies = 0;
  std::atomic<int64_t> answers = 0;
  std::atomic<int64_t> bytes_in = 0;
  std::atomic<int64_t> bytes_out = 0;

  std::atomic<int64_t> held_bytes = 0;
  std::array<std::atomic<int64_t>, std::size(kStalenessBounds) + 1> staleness = {};
  std::atomic<int64_t> staleness_sum = 0;

  ServerStats Read() const {
    ServerStats out = {pushes.load(),    held.load(),      repeated.load(), dropped.load(),
                       refused.load(),   applies.load(),   answers.load(),  bytes_in.load(),
                       bytes_out.load(), held_bytes.load()};
    for (size_t i = 0; i < staleness.size(); ++i) out.staleness[i] = staleness[i].load();
    out.staleness_sum = staleness_sum.load();
    return out;
  }
};

// Counting orders nothing.
inline void Count(std::atomic<int64_t>& counter, int64_t n = 1) {
  counter.fetch_add(n, std::memory_order_relaxed);
}

// A gradient that is `staleness` steps behind is added.
inline void CountStaleness(ServerCounters& counters, int64_t staleness) {
  const auto* bound = std::ranges::lower_bound(kStalenessBounds, staleness);
  Count(counters.staleness[static_cast<size_t>(bound - std::begin(kStalenessBounds))]);
  Count(counters.staleness_sum, staleness);
}

}  // namespace muster::ps
