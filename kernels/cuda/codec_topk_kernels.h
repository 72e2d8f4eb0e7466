// Kernels of the codec topk: the same bytes and residuals as kernels/codecs/topk.cc, which says the
// formulas.
//
// Once the level of a segment is known (codec_topk_search_kernels.h), so is what is sent. It goes
// out in order, so an element's place in the encoding is the number of elements before it that are
// sent: the elements above and at the level are counted in chunks of 16, the counts of 32 chunks
// are added up, and each chunk adds up what is before it and sends. Three passes; only the first
// reads the whole array.
//
// Arrays are aligned to 16 bytes, encodings to 2. See kernel.h for what a kernel is, codec_ops.h
// for what the kernels of a codec are.
#pragma once

#include <bit>
#include <cstddef>

#include "kernels/cuda/codec_topk_search_kernels.h"
#include "kernels/cuda/element_kernels.h"
#include "kernels/cuda/four.h"
#include "kernels/cuda/kernel.h"
#include "kernels/optimizer_math.h"

namespace muster::gpu {

inline constexpr int64_t kTopkChunk = 16;                         // elements
inline constexpr int64_t kTopkChunks = kQuantum / kTopkChunk;     // of a segment
inline constexpr int64_t kTopkGroup = 32;                         // chunks
inline constexpr int64_t kTopkGroups = kTopkChunks / kTopkGroup;  // of a segment

// What the passes leave for each other.
struct TopkWorkspace {
  Pack<uint32_t>* counters;  // [segments, kTopkCounters]: 16 counts of a byte
  Pack<uint32_t>* parts;     // [segments, kTopkParts, 2]: 16 counts of two bytes
  uint32_t* groups;          // [segments, kTopkGroups]: above | at the level << 16
  uint16_t* chunks;          // [segments, kTopkChunks]: above | at the level << 8
  TopkLevel* levels;         // [segments]

  static constexpr int64_t kSegmentBytes =
      kTopkCounters * 16 + kTopkParts * 32 + kTopkGroups * 4 + kTopkChunks * 2 + 8;
  // Of `memory`, segments * kSegmentBytes bytes, aligned to 16.
  static TopkWorkspace Of(int64_t segments, void* memory) {
    auto* at = static_cast<std::byte*>(memory);
    const auto take = [&](int64_t bytes) {
      std::byte* taken = at;
      at += segments * bytes;
      return static_cast<void*>(taken);
    };
    TopkWorkspace w{};
    w.counters = static_cast<Pack<uint32_t>*>(take(kTopkCounters * 16));
    w.parts = static_cast<Pack<uint32_t>*>(take(kTopkParts * 32));
    w.groups = static_cast<uint32_t*>(take(kTopkGroups * 4));
    w.chunks = static_cast<uint16_t*>(take(kTopkChunks * 2));
    w.levels = static_cast<TopkLevel*>(take(8));
    return w;
  }
};

// Counts above and at the level, over kTopkChunks indices a segment.
struct TopkChunkKernel {
  int64_t n;
  const float* x;
  const TopkLevel* levels;
  uint16_t* chunks;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const uint32_t level = levels[i / kTopkChunks].prefix;
    uint32_t counts = 0;
    for (int64_t e = i * kTopkChunk; e < (i + 1) * kTopkChunk; e += 4) {
      const int count = CountOfFour(e, n);
      const Pack4 v = LoadFour(x + e, count);
      for (int k = 0; k < 4; ++k) {
        const uint32_t magnitude = Magnitude(v[k]);
        if (k < count) counts += magnitude > level ? 1 : magnitude == level ? 1 << 8 : 0;
      }
    }
    chunks[i] = static_cast<uint16_t>(counts);
  }
};

// Over kTopkGroups indices a segment.
struct TopkGroupKernel {
  const uint16_t* chunks;
  uint32_t* groups;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const auto* packs = reinterpret_cast<const Pack<uint16_t>*>(chunks + i * kTopkGroup);
    uint32_t sum = 0;
    for (int64_t p = 0; p < kTopkGroup / 8; ++p) {
      const Pack<uint16_t> pack = packs[p];
      for (int k = 0; k < 8; ++k) sum += (pack[k] & 0xff) | (pack[k] >> 8) << 16;
    }
    groups[i] = sum;
  }
};

// Sends what is to be sent of a chunk, and sets it to 0; over kTopkChunks indices a segment.
struct TopkSendKernel {
  TopkShape shape;
  TopkWorkspace w;
  float* x;
  uint16_t* places;
  uint16_t* values;  // two halves each: their address is a multiple of 2

  MUSTER_KERNEL void operator()(int64_t i) const {
    if (w.chunks[i] == 0) return;
    const int64_t segment = i / kTopkChunks;
    const int64_t first_chunk = i / kTopkGroup * kTopkGroup;
    uint32_t before = 0;
    for (int64_t g = segment * kTopkGroups; g < i / kTopkGroup; ++g) before += w.groups[g];
    for (int64_t c = first_chunk; c < i; ++c) {
      before += (w.chunks[c] & 0xff) | static_cast<uint32_t>(w.chunks[c] >> 8) << 16;
    }
    const TopkLevel level = w.levels[segment];
    uint32_t above = before & 0xffff, at = before >> 16;
    const int64_t first_sent = segment * shape.full;
    for (int64_t e = i * kTopkChunk; e < (i + 1) * kTopkChunk && e < shape.n; ++e) {
      const float v = x[e];
      const uint32_t magnitude = Magnitude(v);
      const uint32_t here = above + (at < level.need ? at : level.need);
      if (magnitude > level.prefix) {
        ++above;
      } else if (magnitude != level.prefix || at++ >= level.need) {
        continue;
      }
      const auto bits = std::bit_cast<uint32_t>(v);
      places[first_sent + here] = static_cast<uint16_t>(e % kQuantum);
      values[2 * (first_sent + here)] = static_cast<uint16_t>(bits);
      values[2 * (first_sent + here) + 1] = static_cast<uint16_t>(bits >> 16);
      x[e] = 0;
    }
  }
};

// Puts what was sent where it belongs, over shape.total() indices. A place beyond its segment is
// left out: an encoding in memory that is shared may have changed since Check.
struct TopkScatterKernel {
  TopkShape shape;
  const uint16_t* places;
  const uint16_t* values;
  float* out;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const int64_t whole = shape.n / kQuantum, all = whole * shape.full;
    const int64_t segment =
        i < all ? static_cast<uint32_t>(i) / static_cast<uint32_t>(shape.full) : whole;
    const int64_t e = segment * kQuantum + places[i];
    if (places[i] >= kQuantum || e >= shape.n) return;
    out[e] = std::bit_cast<float>(values[2 * i] | static_cast<uint32_t>(values[2 * i + 1]) << 16);
  }
};

struct TopkKernels {
  static int64_t ScratchBytes(int64_t n) {
    return CeilDiv(n, kQuantum) * TopkWorkspace::kSegmentBytes;
  }

  template <class Run>
  static void Encode(const Run& run, const Codec& codec, int64_t n, const float* gradient,
                     float* residual, std::byte* out, void* scratch) {
    const TopkShape shape = TopkShape::Of(codec, n);
    const int64_t segments = shape.segments();
    const TopkWorkspace w = TopkWorkspace::Of(segments, scratch);
    FindTopkLevels(run, shape, gradient, residual, w.counters, w.parts, w.levels);
    run(segments * kTopkChunks, TopkChunkKernel{n, residual, w.levels, w.chunks});
    run(segments * kTopkGroups, TopkGroupKernel{w.chunks, w.groups});
    auto* places = reinterpret_cast<uint16_t*>(out);
    run(segments * kTopkChunks, TopkSendKernel{shape, w, residual, places, places + shape.total()});
  }

  template <class Run>
  static void Decode(const Run& run, const Codec& codec, int64_t n, const std::byte* encoded,
                     float* out) {
    const TopkShape shape = TopkShape::Of(codec, n);
    const auto* places = reinterpret_cast<const uint16_t*>(encoded);
    run(CeilDiv(n, 4), FillKernel{n, 0, out});
    run(shape.total(), TopkScatterKernel{shape, places, places + shape.total(), out});
  }
};

}  // namespace muster::gpu
