// ParallelFor: an operation's loop over the device's threads.
//
// The range is cut into the same pieces for the same number of threads, so what each thread does is
// deterministic. With one thread no parallel region is entered (tsan cannot see OpenMP's barriers).
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace muster::cpu {

// Calls body(begin, end) for consecutive pieces of [0, size), one per thread, none smaller than
// `grain` but the last.
template <typename Body>
void ParallelFor(int threads, int64_t size, int64_t grain, const Body& body) {
  const int64_t pieces =
      std::clamp<int64_t>(grain > 0 ? size / grain : size, 1, std::max(threads, 1));
  if (pieces == 1) {
    if (size > 0) body(int64_t{0}, size);
    return;
  }
#pragma omp parallel for num_threads(static_cast <int>(pieces)) schedule(static, 1)
  for (int64_t p = 0; p < pieces; ++p) body(size * p / pieces, size * (p + 1) / pieces);
}

}  // namespace muster::cpu
