// How an op on cpu spreads over threads: OpenMP's team, and none at all for one thread.
//
// Internal to the cpu device. Free functions, thread-safe.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace muster {

// Sets the number of threads that oneDNN takes on the calling thread, for the life of the object.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(omp_get_max_threads()) {
    if (threads != before_) omp_set_num_threads(threads);
  }
  ~ThreadScope() {
    if (omp_get_max_threads() != before_) omp_set_num_threads(before_);
  }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  const int before_;
};

// Cuts [0, n) into min(threads, n) parts, as equal as can be, and calls f(part, begin, end) for
// each. The parts are a function of (threads, n) alone, however many threads really come. One part
// runs on the calling thread and no parallel region is entered.
template <class F>
void ParallelFor(int threads, int64_t n, const F& f) {
  const int parts = static_cast<int>(std::min<int64_t>(threads, n));
  const auto run = [&](int part) { f(part, n * part / parts, n * (part + 1) / parts); };
  if (parts == 1) run(0);
  if (parts <= 1) return;
#pragma omp parallel num_threads(parts)
  for (int part = omp_get_thread_num(); part < parts; part += omp_get_num_threads()) run(part);
}

}  // namespace muster
