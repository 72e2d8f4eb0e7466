#include "kernels/philox.h"

#include <cmath>
#include <numbers>

#include "telemetry/check.h"

namespace muster {

PhiloxKey DeriveKey(uint64_t seed, uint64_t a, uint64_t b) {
  const PhiloxBlock block =
      Philox({static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}, a, b);
  return {block[0], block[1]};
}

float TruncatedNormal(PhiloxKey key, uint64_t index) {
  constexpr float kTwoPi = 2 * std::numbers::pi_v<float>;
  for (uint64_t attempt = 0;; ++attempt) {
    const PhiloxBlock block = Philox(key, index, attempt);
    for (int pair = 0; pair < 4; pair += 2) {
      const float radius = std::sqrt(-2 * std::log(1 - UniformFloat(block[pair])));
      const float angle = kTwoPi * UniformFloat(block[pair + 1]);
      const float x = radius * std::cos(angle);
      if (std::abs(x) <= 2) return x;
      const float y = radius * std::sin(angle);
      if (std::abs(y) <= 2) return y;
    }
  }
}

int64_t UniformInt(PhiloxKey key, uint64_t index, uint64_t coordinate, int64_t n) {
  CHECK_GE(n, 1);
  const PhiloxBlock block = Philox(key, index, coordinate);
  __extension__ using uint128 = unsigned __int128;
  const uint64_t word = uint64_t{block[1]} << 32 | block[0];
  return static_cast<int64_t>(static_cast<uint128>(word) * static_cast<uint64_t>(n) >> 64);
}

int64_t Permute(int64_t n, PhiloxKey key, int64_t index) {
  CHECK_GE(index, 0);
  CHECK_LT(index, n);
  int half = 1;  // bits of one Feistel half
  while (uint64_t{1} << (2 * half) < static_cast<uint64_t>(n)) ++half;
  const uint32_t mask = static_cast<uint32_t>((uint64_t{1} << half) - 1);
  uint64_t value = static_cast<uint64_t>(index);
  do {
    uint32_t left = static_cast<uint32_t>(value >> half);
    uint32_t right = static_cast<uint32_t>(value) & mask;
    for (uint32_t round = 0; round < 6; ++round) {
      const uint32_t next = left ^ (Philox(key, PhiloxCounter{right, round, 0, 0})[0] & mask);
      left = right;
      right = next;
    }
    value = uint64_t{left} << half | right;
  } while (value >= static_cast<uint64_t>(n));
  return static_cast<int64_t>(value);
}

}  // namespace muster
