// The bits by which dropout keeps elements: a function of (key, step, first_sample + sample,
// element) alone.
//
// Free functions, thread-safe. A bit is kept with probability k / 256 (DropoutArgs::keep_of_256)
// because an 8-bit number, of which each Philox block gives one bit plane for 128 elements, is
// below k. Planes below k's lowest set bit decide nothing and are not drawn: one half costs one
// block for 128 elements.
#pragma once

#include <cstdint>

#include "kernels/device_ops.h"

namespace muster {

inline constexpr int64_t kDropoutBlock = 128;  // elements
inline constexpr int64_t kDropoutBlockWords = kDropoutBlock / 32;

// Writes the bits of the elements [first_block * 128, (first_block + blocks) * 128) of `sample`:
// element e is bit e % 32 of its word.
void DropoutBits(const DropoutArgs& dropout, int64_t sample, int64_t first_block, int64_t blocks,
                 uint32_t* words);

}  // namespace muster
