// How benchmarks take time and sum up their rounds. Free functions, thread-safe.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

namespace muster::bench {

// What `work` takes.
inline double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The middle one, of an even number the upper of the two. PRECONDITION: there is one.
inline double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace muster::bench
