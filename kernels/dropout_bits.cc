#include "kernels/dropout_bits.h"

#include <algorithm>
#include <bit>

#include "telemetry/check.h"

namespace muster {

void DropoutBits(const DropoutArgs& dropout, int64_t sample, int64_t first_block, int64_t blocks,
                 uint32_t* words) {
  const auto keep = static_cast<uint32_t>(dropout.keep_of_256());
  if (keep == 256) {
    std::fill_n(words, blocks * kDropoutBlockWords, 0xffffffff);
    return;
  }
  CHECK_LT(first_block + blocks, int64_t{1} << 29);
  const auto step =
      static_cast<uint64_t>(dropout.step_at != nullptr ? *dropout.step_at : dropout.step);
  const auto counted = static_cast<uint32_t>(dropout.first_sample + sample);
  const int lowest = std::countr_zero(keep);
  for (int64_t block = 0; block < blocks; ++block, words += kDropoutBlockWords) {
    PhiloxBlock below = {};  // bit: the planes seen so far, as a number, are below those of `keep`
    for (int plane = lowest; plane < 8; ++plane) {
      const PhiloxBlock drawn =
          Philox(dropout.key, PhiloxCounter{static_cast<uint32_t>(first_block + block) |
                                                static_cast<uint32_t>(plane) << 29,
                                            counted, static_cast<uint32_t>(step),
                                            static_cast<uint32_t>(step >> 32)});
      const bool one = keep >> plane & 1;
      for (int i = 0; i < 4; ++i) {
        below[i] = one ? (~drawn[i] | below[i]) : (~drawn[i] & below[i]);
      }
    }
    std::copy(below.begin(), below.end(), words);
  }
}

}  // namespace muster
