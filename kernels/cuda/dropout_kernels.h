// Kernels of relu and dropout. The bits are those of kernels/dropout_bits.h: the same mask as the
// CPU's, whichever device draws it.
//
// See kernel.h for what a kernel is, device_ops.h for what is computed.
#pragma once

#include "kernels/cuda/kernel.h"
#include "kernels/device_ops.h"
#include "kernels/dropout_bits.h"

namespace muster::gpu {

// What DropoutArgs says, as a kernel wants it.
struct Keep {
  uint32_t k0, k1;  // Philox's key
  uint64_t step;
  const int64_t* step_at;  // or null: `step` it is
  uint32_t keep;           // of 256
  int lowest;              // plane that decides anything
  uint32_t first_sample;
  float scale;

  static Keep Of(const DropoutArgs& args) {
    const auto keep = static_cast<uint32_t>(args.keep_of_256());
    int lowest = 0;
    while ((keep >> lowest & 1) == 0) ++lowest;
    return {args.key.k0, args.key.k1, static_cast<uint64_t>(args.step),         args.step_at,
            keep,        lowest,      static_cast<uint32_t>(args.first_sample), args.scale()};
  }
  MUSTER_KERNEL bool all() const { return keep == 256; }

  // The bits of elements [128 * block, 128 * (block + 1)) of `sample`.
  MUSTER_KERNEL void Block(int64_t sample, int64_t block, uint32_t (&bits)[4]) const {
    for (int w = 0; w < 4; ++w) bits[w] = 0;
    const uint64_t now = step_at != nullptr ? static_cast<uint64_t>(*step_at) : step;
    for (int plane = lowest; plane < 8; ++plane) {
      uint32_t c[4] = {static_cast<uint32_t>(block) | static_cast<uint32_t>(plane) << 29,
                       first_sample + static_cast<uint32_t>(sample), static_cast<uint32_t>(now),
                       static_cast<uint32_t>(now >> 32)};
      Philox(c);
      const bool one = keep >> plane & 1;
      for (int w = 0; w < 4; ++w) bits[w] = one ? (~c[w] | bits[w]) : (~c[w] & bits[w]);
    }
  }

 private:
  // Philox4x32-10 in place (kernels/philox.h, which std::array keeps off the device).
  MUSTER_KERNEL void Philox(uint32_t (&c)[4]) const {
    uint32_t key0 = k0, key1 = k1;
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c[0], p1 = uint64_t{0xCD9E8D57} * c[2];
      c[0] = static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key0;
      c[2] = static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key1;
      c[1] = static_cast<uint32_t>(p1);
      c[3] = static_cast<uint32_t>(p0);
      key0 += 0x9E3779B9;
      key1 += 0xBB67AE85;
    }
  }
};

// The bits of one block after the other: the neighbours of an element are mostly in its block.
class KeepCache {
 public:
  MUSTER_KERNEL explicit KeepCache(const Keep& keep) : keep_(keep) {}
  // Of `count` <= 32 elements from `element` on, in the low bits. PRECONDITION: they lie in one
  // word of 32.
  MUSTER_KERNEL uint32_t Bits(int64_t sample, int64_t element, int count) {
    const int64_t block = element / kDropoutBlock;
    if (block != block_ || sample != sample_) {
      keep_.Block(sample, block, bits_);
      block_ = block;
      sample_ = sample;
    }
    const int in_block = static_cast<int>(element % kDropoutBlock);
    // Not bits_[in_block / 32]: an index that is not known beforehand would put them into memory.
    const int word = in_block / 32;
    const uint32_t bits =
        word < 2 ? (word == 0 ? bits_[0] : bits_[1]) : (word == 2 ? bits_[2] : bits_[3]);
    const uint32_t mask = count == 32 ? 0xffffffff : (uint32_t{1} << count) - 1;
    return bits >> (in_block % 32) & mask;
  }

 private:
  const Keep& keep_;
  int64_t sample_ = -1, block_ = -1;
  uint32_t bits_[4] = {};
};

// What the three kernels below have in common: an index is eight neighbours of one sample, and one
// byte of its mask. A sample has as many indices as its mask has bytes.
struct Eight {
  int64_t sample, first;  // elements of the sample [first, first + count)
  int count;              // 0 to 8

  MUSTER_KERNEL Eight(int64_t i, int64_t features) {
    const auto at = static_cast<uint32_t>(i),
               bytes = static_cast<uint32_t>(4 * ((features + 31) / 32));
    sample = at / bytes;
    first = int64_t{at % bytes} * 8;
    const int64_t left = features - first;
    count = left >= 8 ? 8 : left > 0 ? static_cast<int>(left) : 0;
  }
  static int64_t Count(int64_t n, int64_t features) { return n * 4 * MaskWords(features); }
};

// x[0, count) to v, the rest 0; and v to y[0, count). `fours`: both by 16 bytes.
MUSTER_KERNEL void LoadEight(const float* x, int count, bool fours, float (&v)[8]) {
  if (fours && count == 8) {
    const Pack4 a = Load4(x), b = Load4(x + 4);
    for (int k = 0; k < 4; ++k) v[k] = a[k], v[k + 4] = b[k];
  } else {
    for (int k = 0; k < 8; ++k) v[k] = k < count ? x[k] : 0;
  }
}
MUSTER_KERNEL void StoreEight(const float (&v)[8], int count, bool fours, float* y) {
  if (fours && count == 8) {
    Store4({{v[0], v[1], v[2], v[3]}}, y);
    Store4({{v[4], v[5], v[6], v[7]}}, y + 4);
  } else {
    for (int k = 0; k < 8; ++k) {
      if (k < count) y[k] = v[k];
    }
  }
}

struct ReluDropoutKernel {
  int64_t features;
  bool fours;
  Keep keep;
  const float* bias;  // [channels], or null
  int channels;
  const float* x;
  float* y;
  uint8_t* mask;  // or null

  MUSTER_KERNEL void operator()(int64_t i) const {
    const Eight e(i, features);
    float v[8];
    LoadEight(x + e.sample * features + e.first, e.count, fours, v);
    if (bias != nullptr) {
      auto channel = static_cast<uint32_t>(e.first) % static_cast<uint32_t>(channels);
      for (int k = 0; k < 8; ++k) {
        if (k < e.count) v[k] += bias[channel];
        if (++channel == static_cast<uint32_t>(channels)) channel = 0;
      }
    }
    KeepCache cache(keep);
    const uint32_t kept = keep.all() || e.count == 0 ? 0xff : cache.Bits(e.sample, e.first, 8);
    uint32_t bits = 0;
    for (int k = 0; k < 8; ++k) {
      const bool stays = v[k] > 0 && (kept >> k & 1);
      v[k] = stays ? v[k] * keep.scale : 0;
      bits |= static_cast<uint32_t>(stays) << k;
    }
    StoreEight(v, e.count, fours, y + e.sample * features + e.first);
    if (mask != nullptr) mask[i] = static_cast<uint8_t>(bits);
  }
};

struct MaskedScaleKernel {
  int64_t features;
  bool fours;
  float scale;
  const uint8_t* mask;
  const float* dy;
  float* dx;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const Eight e(i, features);
    float v[8];
    LoadEight(dy + e.sample * features + e.first, e.count, fours, v);
    const uint32_t bits = mask[i];
    for (int k = 0; k < 8; ++k) v[k] = bits >> k & 1 ? v[k] * scale : 0;
    StoreEight(v, e.count, fours, dx + e.sample * features + e.first);
  }
};

struct DropoutKernel {
  int64_t features;
  bool fours;
  Keep keep;
  const float* x;
  float* y;

  MUSTER_KERNEL void operator()(int64_t i) const {
    const Eight e(i, features);
    if (e.count == 0) return;
    float v[8];
    LoadEight(x + e.sample * features + e.first, e.count, fours, v);
    KeepCache cache(keep);
    const uint32_t kept = keep.all() ? 0xff : cache.Bits(e.sample, e.first, 8);
    for (int k = 0; k < 8; ++k) v[k] = kept >> k & 1 ? v[k] * keep.scale : 0;
    StoreEight(v, e.count, fours, y + e.sample * features + e.first);
  }
};

}  // namespace muster::gpu
