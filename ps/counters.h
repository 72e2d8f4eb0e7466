// ServerCounters: what a server counts, from any thread. ServerStats (ps/server.h) is a reading of
// them.
#pragma once

#include <atomic>
#include <cstdint>

#include "ps/server.h"

namespace muster::ps {

struct ServerCounters {
  std::atomic<int64_t> pushes = 0;
  std::atomic<int64_t> held = 0;
  std::atomic<int64_t> repeated = 0;
  std::atomic<int64_t> refused = 0;
  std::atomic<int64_t> applies = 0;
  std::atomic<int64_t> answers = 0;
  std::atomic<int64_t> bytes_in = 0;
  std::atomic<int64_t> bytes_out = 0;

  ServerStats Read() const {
    return {pushes.load(),  held.load(),    repeated.load(), refused.load(),
            applies.load(), answers.load(), bytes_in.load(), bytes_out.load()};
  }
};

// Counting orders nothing.
inline void Count(std::atomic<int64_t>& counter, int64_t n = 1) {
  counter.fetch_add(n, std::memory_order_relaxed);
}

}  // namespace muster::ps
