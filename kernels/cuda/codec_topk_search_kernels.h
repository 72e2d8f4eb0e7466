// Kernels that find, for each segment of the codec topk, what decides whether an element is sent
// (kernels/codecs/topk.cc).
//
// The k-th largest magnitude of a segment, its level, is found digit by digit, four bits each, the
// highest first. What is known of the level after some digits is its prefix, and `need`, its rank
// among the elements that begin with that prefix. For each digit
//   1. an index counts, for 128 elements, those with the prefix by their next digit,
//   2. an index adds up the counts of 16 such,
//   3. an index per segment adds up those, and takes the digit at which the counts from above
//      reach `need`.
// After the last digit the prefix is the level, and `need` how many elements at the level itself
// are sent: the first. That reads the array eight times, in 24 passes, whatever the fraction.
//
// Arrays are aligned to 16 bytes. See kernel.h for what a kernel is.
#pragma once

#include <bit>

#include "kernels/codec.h"
#include "kernels/cuda/four.h"
#include "kernels/cuda/kernel.h"
#include "kernels/optimizer_math.h"

namespace muster::gpu {

inline constexpr int kTopkDigit = 4;                               // bits
inline constexpr int kTopkTopShift = 28;                           // of the highest digit
inline constexpr int64_t kTopkCounted = 128;                       // elements an index counts
inline constexpr int64_t kTopkCounters = kQuantum / kTopkCounted;  // such indices of a segment
inline constexpr int64_t kTopkParts = kTopkCounters / 16;          // sums of a segment

// How many elements of which segment are sent.
struct TopkShape {
  int64_t n;
  int64_t full, rest;  // sent of a segment of kQuantum elements, and of what is left at the end

  static TopkShape Of(const Codec& topk, int64_t n) {
    const auto sent = [&](int64_t size) {
      return static_cast<int64_t>(topk.EncodedSize(size)) / (2 + 4);
    };
    return {n, sent(kQuantum), sent(n % kQuantum)};
  }
  MUSTER_KERNEL int64_t segments() const { return CeilDiv(n, kQuantum); }
  MUSTER_KERNEL int64_t total() const { return n / kQuantum * full + rest; }
  MUSTER_KERNEL int64_t Sent(int64_t segment) const { return segment < n / kQuantum ? full : rest; }
};

struct TopkLevel {
  uint32_t prefix, need;
};

MUSTER_KERNEL uint32_t Magnitude(float x) { return std::bit_cast<uint32_t>(x) & 0x7fffffff; }

// Counts the digit at `shift`. kFirst: the highest; no prefix is known, and x = gradient + x first.
// Over kTopkCounters indices a segment; neighbours count neighbouring fours.
template <bool kFirst>
struct TopkCountKernel {
  int64_t n;
  int shift;
  const float* gradient;
  float* x;
  const TopkLevel* levels;
  Pack<uint32_t>* counters;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int64_t segment = i / kTopkCounters, begin = segment * kQuantum;
    const uint32_t prefix = kFirst ? 0 : levels[segment].prefix;
    Pack<uint32_t> counts = {};  // digit d: byte d % 4 of word d / 4
    int64_t first = begin + i % kTopkCounters * 4;
    if (begin + kQuantum <= n) {
      for (int step = 0; step < kTopkCounted / 4; ++step, first += 4 * kTopkCounters) {
        Count(first, 4, prefix, counts);
      }
    } else {
      for (; first < n; first += 4 * kTopkCounters) {
        Count(first, CountOfFour(first, n), prefix, counts);
      }
    }
    counters[i] = counts;
  }

 private:
  MUSTER_KERNEL void Count(int64_t first, int count, uint32_t prefix,
                           Pack<uint32_t>& counts) const {
    Pack4 v = LoadFour(x + first, count);
    if constexpr (kFirst) {
      const Pack4 g = LoadFour(gradient + first, count);
      for (int k = 0; k < 4; ++k) v[k] = g[k] + v[k];
      StoreFour(v, count, x + first);
    }
    for (int k = 0; k < 4; ++k) {
      const uint32_t digits = Magnitude(v[k]) >> shift;
      const bool counted = k < count && digits >> kTopkDigit == prefix;
      const uint32_t one = counted ? 1u << (8 * (digits % 4)) : 0;
      for (uint32_t w = 0; w < 4; ++w) counts[w] += digits / 4 % 4 == w ? one : 0;
    }
  }
};

// Over kTopkParts indices a segment.
struct TopkPartKernel {
  const Pack<uint32_t>* counters;
  Pack<uint32_t>* parts;

  MUSTER_KERNEL void operator()(int64_t i) const {
    Pack<uint32_t> even = {}, odd = {};  // digits
    for (int c = 0; c < 16; ++c) {
      const Pack<uint32_t> counts = counters[16 * i + c];
      for (int w = 0; w < 4; ++w) {
        even[w] += counts[w] & 0x00ff00ff;
        odd[w] += counts[w] >> 8 & 0x00ff00ff;
      }
    }
    parts[2 * i] = even;
    parts[2 * i + 1] = odd;
  }
};

// The next digit of each segment's level, over the segments.
template <bool kFirst>
struct TopkDigitKernel {
  TopkShape shape;
  const Pack<uint32_t>* parts;
  TopkLevel* levels;

  MUSTER_KERNEL void operator()(int64_t segment) const {
    Pack<uint32_t> even = {}, odd = {};
    for (int64_t p = 0; p < kTopkParts; ++p) {
      const Pack<uint32_t> even_part = parts[2 * (segment * kTopkParts + p)];
      const Pack<uint32_t> odd_part = parts[2 * (segment * kTopkParts + p) + 1];
      for (int w = 0; w < 4; ++w) {
        even[w] += even_part[w];
        odd[w] += odd_part[w];
      }
    }
    TopkLevel level = {0, static_cast<uint32_t>(shape.Sent(segment))};
    if constexpr (!kFirst) level = levels[segment];
    uint32_t digit = 0;
    bool found = false;
    for (int d = 15; d >= 0; --d) {
      const uint32_t two = d % 2 == 0 ? even[d / 4] : odd[d / 4];
      const uint32_t count = d % 4 >= 2 ? two >> 16 : two & 0xffff;
      if (found) continue;
      found = count >= level.need;
      if (found) {
        digit = static_cast<uint32_t>(d);
      } else {
        level.need -= count;
      }
    }
    levels[segment] = {level.prefix << kTopkDigit | digit, level.need};
  }
};

// Adds `gradient` to x, and finds the level of each segment, by the passes that run(indices,
// kernel) runs one after the other. `counters` [segments, kTopkCounters] and `parts` [segments,
// kTopkParts, 2] are scratch memory. PRECONDITION: n > 0.
template <class Run>
void FindTopkLevels(const Run& run, const TopkShape& shape, const float* gradient, float* x,
                    Pack<uint32_t>* counters, Pack<uint32_t>* parts, TopkLevel* levels) {
  const int64_t segments = shape.segments();
  for (int shift = kTopkTopShift; shift >= 0; shift -= kTopkDigit) {
    const auto digit = [&]<bool kFirst>() {
      run(segments * kTopkCounters,
          TopkCountKernel<kFirst>{shape.n, shift, gradient, x, levels, counters});
      run(segments * kTopkParts, TopkPartKernel{counters, parts});
      run(segments, TopkDigitKernel<kFirst>{shape, parts, levels});
    };
    shift == kTopkTopShift ? digit.template operator()<true>() : digit.template operator()<false>();
  }
}

}  // namespace muster::gpu
