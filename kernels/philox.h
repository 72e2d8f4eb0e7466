// Philox4x32-10: random numbers as a pure function of (key, counter), and what is made from them:
// uniform and truncated-normal floats and a random-access permutation.
//
// Pure functions: thread-safe. Whatever is random in Muster is drawn here, over logical indices
// (seed, step, replica, sample, element), never over memory order, so that a result does not depend
// on who computes it, or when.
//
// Source: Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
// One round of Philox4x32:
//   (hi0, lo0) = M0 * c0
//   (hi1, lo1) = M1 * c2
//   c = (hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0)
//   k += (W0, W1)
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace muster {

struct PhiloxKey {
  uint32_t k0 = 0;
  uint32_t k1 = 0;
};

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxBlock = std::array<uint32_t, 4>;  // four independent, uniform 32-bit words

// The ten rounds.
constexpr PhiloxBlock Philox(PhiloxKey key, PhiloxCounter counter) {
  constexpr uint32_t kM0 = 0xD2511F53, kM1 = 0xCD9E8D57;
  constexpr uint32_t kW0 = 0x9E3779B9, kW1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kM0} * counter[0];
    const uint64_t p1 = uint64_t{kM1} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key.k0, static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key.k1, static_cast<uint32_t>(p0)};
    key.k0 += kW0;
    key.k1 += kW1;
  }
  return counter;
}

// The block at a 64-bit index, with room for a second, independent 64-bit coordinate (a step, an
// attempt, a dimension).
constexpr PhiloxBlock Philox(PhiloxKey key, uint64_t index, uint64_t coordinate = 0) {
  return Philox(key, PhiloxCounter{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                   static_cast<uint32_t>(coordinate),
                                   static_cast<uint32_t>(coordinate >> 32)});
}

// An independent key for each (seed, a, b): `a` and `b` name a purpose, e.g. HashName("dropout")
// and a layer's number.
PhiloxKey DeriveKey(uint64_t seed, uint64_t a, uint64_t b = 0);

// 64-bit FNV-1a, to make a number of a name ("conv1/weights") for DeriveKey.
constexpr uint64_t HashName(std::string_view name) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return hash;
}

// A word as a float in [0, 1): the 24 high bits times 2^-24, exactly.
constexpr float UniformFloat(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// Element `index` of an endless sequence of normals with mean 0 and deviation 1, cut at two
// deviations by drawing again (as TensorFlow's truncated normal does). Box-Muller over the block at
// (index, attempt).
float TruncatedNormal(PhiloxKey key, uint64_t index);

// A uniform integer in [0, n): the high 64 bits of (64 random bits) * n. PRECONDITION: n >= 1.
int64_t UniformInt(PhiloxKey key, uint64_t index, uint64_t coordinate, int64_t n);

// The place of `index` in a pseudo-random permutation of [0, n) that the key picks; for fixed (n,
// key) a bijection, computed without a table: a six-round Feistel network over the next power of
// four, walked until the value is below n (Black and Rogaway, 2002). PRECONDITION: 0 <= index < n
// <= 2^62.
int64_t Permute(int64_t n, PhiloxKey key, int64_t index);

}  // namespace muster
