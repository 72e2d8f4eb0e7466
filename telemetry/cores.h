// How many cores there are for this process.
#pragma once

#include <sched.h>

#include <algorithm>
#include <thread>

namespace muster {

// Cores that this process may run on, at least 1. Thread-safe.
inline int UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace muster
