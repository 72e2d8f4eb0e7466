// What the tests of ops and layers share: random values and the one rule for tolerances.
//
// Free functions, thread-safe.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/philox.h"

namespace muster::testing {

// n values, uniform in [-1, 1), a function of the seed.
inline std::vector<float> Uniform(int64_t n, uint64_t seed) {
  const PhiloxKey key = DeriveKey(seed, HashName("test values"));
  std::vector<float> values(n);
  for (int64_t i = 0; i < n; ++i) values[i] = 2 * UniformFloat(Philox(key, i)[0]) - 1;
  return values;
}

// n different values in (-1, 1) with a distance of 2 / n, in random order; none nearer to 0 than 1
// / (2 n).
inline std::vector<float> Distinct(int64_t n, uint64_t seed) {
  const PhiloxKey key = DeriveKey(seed, HashName("distinct values"));
  std::vector<float> values(n);
  for (int64_t i = 0; i < n; ++i) {
    const auto place = static_cast<double>(Permute(n, key, i));
    values[i] = static_cast<float>((place + 0.75) * 2 / static_cast<double>(n) - 1);
  }
  return values;
}

// For comparisons in which -0 is not 0, and a NaN is itself.
inline std::vector<uint32_t> Bits(const std::vector<float>& array) {
  std::vector<uint32_t> bits;
  for (const float x : array) bits.push_back(std::bit_cast<uint32_t>(x));
  return bits;
}

// How far a float32 sum of `terms` products of magnitude <= 1 may be from the exact one: each of
// the products and partial sums, which grow as sqrt(terms), is rounded once, and the roundings add
// up as sqrt(terms) too; twice that.
inline double Tolerance(int64_t terms) {
  return 2 * std::numeric_limits<float>::epsilon() * static_cast<double>(terms + 1);
}

}  // namespace muster::testing
